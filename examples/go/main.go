// Watches OpFlex peers for as long as it runs, through broken connections and restarts of the service.
//
//	cd examples/go && npx @bufbuild/buf@1.75.0 generate ../../proto && go run . 127.0.0.1:50051
package main

import (
	"context"
	v1 "example.com/peerstatus/gen/opflex/peerstatus/v1"
	"fmt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"log"
	"math/rand/v2"
	"os"
	"time"
)

const listener = "example-go" // a name of your own: it outlives its streams, and who else uses it takes over
var (
	cursor                       *v1.Cursor                                  // what was processed last; nil: nothing to go on from
	epoch, last, failures, asked = uint64(0), uint64(0), 0, time.Duration(0) // asked: a pause, by the service
)

func watch(ctx context.Context, stub v1.PeerStatusServiceClient) error { // one stream, to its end
	create := &v1.CreateListenerRequest{ListenerId: listener, UserData: []byte("example")}
	if _, err := stub.CreateListener(ctx, create); err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	stream, err := stub.WatchPeerStatus(ctx, &v1.WatchPeerStatusRequest{Listener: "listeners/" + listener, ResumeAfter: cursor, Takeover: true})
	for err == nil {
		var message *v1.WatchPeerStatusResponse
		if message, err = stream.Recv(); err == nil {
			process(message)
		}
	}
	return err
}

func process(m *v1.WatchPeerStatusResponse) {
	attached, reset, snapshot, change := m.GetAttached(), m.GetReset_(), m.GetSnapshot(), m.GetChange()
	switch {
	case attached != nil:
		epoch, last = attached.Cursor.Epoch, attached.Cursor.Revision
		fmt.Println("attached at", last, "resumed:", attached.Resumed)
	case reset != nil: // what we knew is void, and a snapshot follows
		cursor = nil
		fmt.Println("missed", reset.MissedCount, "changes (0: nobody knows how many):", reset.Reason)
	case snapshot != nil:
		last = m.Revision
		fmt.Println("snapshot", last, snapshot.Peers)
	case change != nil && m.PreviousRevision != last:
		log.Fatalf("a gap: %d is not %d", m.PreviousRevision, last)
	case change != nil:
		last = m.Revision
		fmt.Println("change", last, change.GetPeer().GetPeer(), change.GetHealth())
	}
	if attached == nil && reset == nil && snapshot == nil { // not before `synced`: half a snapshot is none
		cursor, failures, asked = &v1.Cursor{Epoch: epoch, Revision: m.Revision}, 0, m.GetDraining().GetRetryAfter().AsDuration()
	}
}

func main() {
	alive := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second}) // notice a silent death
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()), alive)
	for stub := v1.NewPeerStatusServiceClient(connection); err == nil; failures++ {
		lost := watch(context.Background(), stub)
		fmt.Println("lost:", lost)
		switch status.Code(lost) {
		case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.Aborted:
			log.Fatal("trying again would not help")
		}
		time.Sleep(max(asked, rand.N(min(10*time.Second, 250*time.Millisecond<<min(failures, 10)))))
		connection.ResetConnectBackoff() // gRPC's own pauses grow to two minutes
	}
	log.Fatal(err)
}
