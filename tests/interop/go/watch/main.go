// Command watch is the Go client of tests/faults: each watch writes every message that it gets, unchanged, to a file of its
// own. Its argument and its lines are those of tests/faults/watcher.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

// Short, so that a run takes seconds.
const (
	heartbeat    = 3 * time.Second
	longestPause = time.Second
	callTimeout  = 5 * time.Second
)

type spec struct {
	Server  string      `json:"server"`
	CA      string      `json:"ca"`
	Watches []watchSpec `json:"watches"`
}

type watchSpec struct {
	Log       string          `json:"log"`
	Filter    json.RawMessage `json:"filter"`
	UserData  []byte          `json:"user_data"`
	Listener  string          `json:"listener"`
	GapPolicy pb.GapPolicy    `json:"gap_policy"`
}

// watch is one watch, across its streams.
type watch struct {
	spec   watchSpec
	filter pb.ListenerFilter
	stub   pb.PeerStatusServiceClient
	log    *os.File
	cursor *pb.Cursor
	epoch  uint64
}

func (w *watch) write(line []byte) {
	if _, err := w.log.Write(append(line, '\n')); err != nil {
		log.Fatal(err)
	}
}

func (w *watch) writeValue(value map[string]any) {
	line, err := json.Marshal(value)
	if err != nil {
		log.Fatal(err)
	}
	w.write(line)
}

// run watches for ever.
func (w *watch) run() {
	for {
		err := w.stream(context.Background())
		code := status.Code(err)
		if errors.Is(err, io.EOF) {
			code = codes.OK
		}
		w.writeValue(map[string]any{"lost": code, "why": fmt.Sprint(err)})
		if code == codes.OutOfRange {
			w.cursor = nil
		}
		time.Sleep(50*time.Millisecond + rand.N(longestPause))
	}
}

// stream is one stream, to its end.
func (w *watch) stream(ctx context.Context) error {
	request := &pb.WatchPeerStatusRequest{
		ResumeAfter: w.cursor, GapPolicy: w.spec.GapPolicy, HeartbeatInterval: durationpb.New(heartbeat),
	}
	if w.spec.Listener == "" {
		request.UserData, request.Filter = w.spec.UserData, &w.filter
	} else {
		if err := w.create(ctx); err != nil {
			return err
		}
		request.Listener, request.Takeover = "listeners/"+w.spec.Listener, true
	}
	var ask any
	if w.cursor != nil {
		ask = map[string]string{"epoch": fmt.Sprint(w.cursor.Epoch), "revision": fmt.Sprint(w.cursor.Revision)}
	}
	w.writeValue(map[string]any{"ask": ask})
	stream, err := w.stub.WatchPeerStatus(ctx, request)
	for err == nil {
		var message *pb.WatchPeerStatusResponse
		if message, err = stream.Recv(); err == nil {
			err = w.process(message)
		}
	}
	return err
}

// create creates the listener, unless it is there.
func (w *watch) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := &pb.CreateListenerRequest{ListenerId: w.spec.Listener, UserData: w.spec.UserData, Filter: &w.filter}
	if _, err := w.stub.CreateListener(ctx, request); status.Code(err) != codes.AlreadyExists {
		return err
	}
	return nil
}

// process writes the message, and keeps the cursor as the comments of the API say.
func (w *watch) process(message *pb.WatchPeerStatusResponse) error {
	line, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return err
	}
	w.write(line)
	switch {
	case message.GetAttached() != nil:
		w.epoch = message.GetAttached().Cursor.Epoch
	case message.GetReset_() != nil, message.GetSnapshot() != nil:
		w.cursor = nil
	case message.GetSynced() != nil, w.cursor != nil:
		w.cursor = &pb.Cursor{Epoch: w.epoch, Revision: message.Revision}
	}
	return nil
}

func main() {
	var all spec
	if err := json.Unmarshal([]byte(os.Args[1]), &all); err != nil {
		log.Fatal(err)
	}
	transport, err := credentials.NewClientTLSFromFile(all.CA, "")
	if err != nil {
		log.Fatal(err)
	}
	pauses := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestPause}
	for _, one := range all.Watches {
		// Each on a connection of its own. Go allows no keepalive below 10 s.
		connection, err := grpc.NewClient("passthrough:"+all.Server, grpc.WithTransportCredentials(transport),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: 5 * time.Second}))
		if err != nil {
			log.Fatal(err)
		}
		file, err := os.OpenFile(one.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			log.Fatal(err)
		}
		w := &watch{spec: one, stub: pb.NewPeerStatusServiceClient(connection), log: file}
		if err := protojson.Unmarshal(one.Filter, &w.filter); err != nil {
			log.Fatal(err)
		}
		go w.run()
	}
	select {}
}
