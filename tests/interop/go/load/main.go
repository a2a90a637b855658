// Command load calls the service at full speed over the connection that carries a watch, and checks both.
//
// It prints a report as one line of JSON. The exit code is 1 if a call failed, the watch ended, or a revision is missing.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pb "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

const (
	// Far longer than any call here takes: it ends a call that hangs.
	callTimeout = 20 * time.Second
	pool        = "pools/default"
)

var (
	address    = flag.String("address", "", "`HOST:PORT` of the service or of a proxy in front of it")
	seconds    = flag.Float64("seconds", 3, "how long to call")
	parallel   = flag.Int("parallel", 1, "how many goroutines call; 0 only watches")
	small      = flag.Bool("small", false, "make only calls whose answers are a few bytes: the most calls, and the most frames per byte of answers")
	cancel     = flag.Bool("cancel", false, "cancel a third of the calls at a random moment")
	together   = flag.Bool("together", false, "with -cancel: make calls in groups of -parallel, and cancel whole groups, as the end of a parent context does")
	ca         = flag.String("ca", "", "connect with TLS, and trust the certificates in this `FILE`")
	serverName = flag.String("server-name", "", "with -ca: the `NAME` in the server's certificate")
)

// report is what the program prints. The clients in other languages print the same fields.
type report struct {
	Calls       int64            `json:"calls"`
	Cancelled   int64            `json:"cancelled"`
	Seconds     float64          `json:"seconds"`
	Changes     int64            `json:"changes"`
	Connections int64            `json:"connections"`
	Failures    map[string]int64 `json:"failures"`
}

// failures counts errors by message. Only a few messages are kept: one cut connection fails every call on it.
type failures struct {
	mutex  sync.Mutex
	counts map[string]int64
}

func (f *failures) add(message string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if _, known := f.counts[message]; !known && len(f.counts) >= 10 {
		message = "other failures"
	}
	f.counts[message]++
}

// watch follows one stream and checks the chain of revisions.
type watch struct {
	revision atomic.Uint64
	changes  atomic.Int64
	synced   chan struct{}
}

// run reads the stream until ctx is cancelled, which is the only end that is not an error.
func (w *watch) run(ctx context.Context, client pb.PeerStatusServiceClient) error {
	stream, err := client.WatchPeerStatus(ctx, &pb.WatchPeerStatusRequest{})
	for err == nil {
		var message *pb.WatchPeerStatusResponse
		if message, err = stream.Recv(); err == nil {
			err = w.check(message)
		}
	}
	if ctx.Err() != nil && status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

func (w *watch) check(message *pb.WatchPeerStatusResponse) error {
	revision := w.revision.Load()
	switch {
	case message.GetAttached() != nil:
		w.revision.Store(message.GetAttached().Cursor.Revision)
	case message.GetSnapshot() != nil:
		w.revision.Store(message.Revision)
	case message.GetSynced() != nil:
		close(w.synced)
	case message.GetReset_() != nil:
		return fmt.Errorf("reset: %v", message.GetReset_())
	case message.GetChange() != nil:
		if message.PreviousRevision != revision || message.Revision <= revision {
			return fmt.Errorf("gap: revision %d after %d, previous_revision %d", message.Revision, revision, message.PreviousRevision)
		}
		w.revision.Store(message.Revision)
		w.changes.Add(1)
	}
	return nil
}

// untilRevision waits until the watch has received everything up to that revision.
func (w *watch) untilRevision(wanted uint64, ended <-chan error) error {
	timeout := time.After(callTimeout)
	for w.revision.Load() < wanted {
		select {
		case err := <-ended:
			return err
		case <-timeout:
			return fmt.Errorf("the watch stalled at revision %d, the pool is at %d", w.revision.Load(), wanted)
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// caller makes calls one after the other.
type caller struct {
	client   pb.PoolServiceClient
	health   healthpb.HealthClient
	peer     string
	report   *report
	failures *failures
	latency  time.Duration // of the last call
}

// call makes one of three calls in turn, or always the same small one.
func (c *caller) call(ctx context.Context, turn int) (string, error) {
	if *small {
		_, err := c.health.Check(ctx, &healthpb.HealthCheckRequest{})
		return "Check", err
	}
	switch turn % 3 {
	case 0:
		_, err := c.client.GetPool(ctx, &pb.GetPoolRequest{Name: pool})
		return "GetPool", err
	case 1:
		_, err := c.client.ListPeers(ctx, &pb.ListPeersRequest{Parent: pool})
		return "ListPeers", err
	default:
		_, err := c.client.GetPeer(ctx, &pb.GetPeerRequest{Name: c.peer})
		return "GetPeer", err
	}
}

// run makes groups of calls until the deadline, and cancels a third of the groups if the flags say so.
func (c *caller) run(deadline time.Time, group int) {
	for turn := 0; time.Now().Before(deadline); turn++ {
		ctx, cancelCalls := context.WithTimeout(context.Background(), callTimeout)
		toCancel := *cancel && rand.N(3) == 0
		if toCancel {
			// At any moment of the calls, whatever the speed of the machine.
			time.AfterFunc(rand.N(c.latency+time.Microsecond), cancelCalls)
		}
		started := time.Now()
		var calls sync.WaitGroup
		for range group - 1 {
			calls.Go(func() { c.count(ctx, turn, toCancel) })
		}
		c.count(ctx, turn, toCancel)
		calls.Wait()
		if !toCancel {
			c.latency = time.Since(started)
		}
		cancelCalls()
	}
}

// count makes a call and enters its outcome in the report.
func (c *caller) count(ctx context.Context, turn int, toCancel bool) {
	method, err := c.call(ctx, turn)
	switch {
	case err == nil:
		atomic.AddInt64(&c.report.Calls, 1)
	case toCancel && status.Code(err) == codes.Canceled:
		atomic.AddInt64(&c.report.Cancelled, 1)
	default:
		c.failures.add(fmt.Sprintf("%s: %v", method, err))
		time.Sleep(time.Millisecond) // the connection may be gone: do not fill the report in a busy loop
	}
}

func connect(connections *int64) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if *ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(*ca, *serverName); err != nil {
			return nil, err
		}
	}
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		atomic.AddInt64(connections, 1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return grpc.NewClient("passthrough:///"+*address, grpc.WithTransportCredentials(transport), grpc.WithContextDialer(dial))
}

// load watches, calls for as long as the flags say, and waits for the watch to catch up.
func load(connection *grpc.ClientConn, report *report, failures *failures) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	w := &watch{synced: make(chan struct{})}
	defer func() { report.Changes = w.changes.Load() }()
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx, pb.NewPeerStatusServiceClient(connection)) }()
	select {
	case <-w.synced:
	case err := <-ended:
		return fmt.Errorf("watch: %w", err)
	case <-time.After(callTimeout):
		return fmt.Errorf("watch: not synced within %v", callTimeout)
	}

	client, health := pb.NewPoolServiceClient(connection), healthpb.NewHealthClient(connection)
	peers, err := client.ListPeers(ctx, &pb.ListPeersRequest{Parent: pool})
	if err != nil {
		return fmt.Errorf("ListPeers: %w", err)
	}
	started := time.Now()
	deadline := started.Add(time.Duration(*seconds * float64(time.Second)))
	var callers sync.WaitGroup
	groups, group := *parallel, 1
	if *together {
		groups, group = 1, *parallel
	}
	for range groups {
		c := &caller{client: client, health: health, peer: peers.Peers[0].Name, report: report, failures: failures}
		callers.Go(func() { c.run(deadline, group) })
	}
	callers.Wait()
	time.Sleep(time.Until(deadline))
	report.Seconds = time.Since(started).Seconds()

	answer, err := client.GetPool(ctx, &pb.GetPoolRequest{Name: pool})
	if err != nil {
		return fmt.Errorf("GetPool, the last call: %w", err)
	}
	if err := w.untilRevision(answer.Cursor.Revision, ended); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	stop()
	if err := <-ended; err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

func main() {
	flag.Parse()
	report, failures := &report{}, &failures{counts: map[string]int64{}}
	connection, err := connect(&report.Connections)
	if err != nil {
		log.Fatal(err)
	}
	if err := load(connection, report, failures); err != nil {
		failures.add(err.Error())
	}
	report.Failures = failures.counts
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
	if len(report.Failures) > 0 {
		os.Exit(1)
	}
}
