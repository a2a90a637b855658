// Package interop is a Go client against the real service and a real OpFlex peer. Its stubs are generated
// from proto/ (see `make interop`); it uses nothing else of this repository.
package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

var userData = []byte("\x00 opaque \xff bytes")

// watch is a stream that checks on every message what the contract promises about all of them.
type watch struct {
	t        *testing.T
	messages <-chan *pb.WatchPeerStatusResponse
	ended    <-chan error
	attached *pb.Attached
	userData string
	revision uint64
	changes  []*pb.Change
}

func startWatch(t *testing.T, connection *grpc.ClientConn, request *pb.WatchPeerStatusRequest) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := pb.NewPeerStatusServiceClient(connection).WatchPeerStatus(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	messages, ended := make(chan *pb.WatchPeerStatusResponse), make(chan error, 1)
	go func() {
		for {
			message, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- message:
			case <-ctx.Done():
				return
			}
		}
	}()
	w := &watch{t: t, messages: messages, ended: ended}
	first := w.next()
	if w.attached = first.GetAttached(); w.attached == nil {
		t.Fatalf("the first message must be attached: %v", first)
	}
	w.userData, w.revision = string(first.UserData), w.attached.Cursor.Revision
	return w
}

// next returns the next message. Silence and the end of the stream fail the test.
func (w *watch) next() *pb.WatchPeerStatusResponse {
	w.t.Helper()
	select {
	case message := <-w.messages:
		return message
	case err := <-w.ended:
		w.t.Fatalf("the stream ended: %v; changes so far: %v", err, w.changes)
	case <-time.After(patience):
		w.t.Fatalf("no message within %v; changes so far: %v", patience, w.changes)
	}
	return nil
}

// event returns the next message after its place in the order was checked.
func (w *watch) event() *pb.WatchPeerStatusResponse {
	w.t.Helper()
	message := w.next()
	if change := message.GetChange(); change != nil {
		if message.PreviousRevision != w.revision || message.Revision <= w.revision {
			w.t.Fatalf("a gap: had revision %d, got %v", w.revision, message)
		}
		if string(message.UserData) != w.userData {
			w.t.Fatalf("user_data must come back with every change: %v", message)
		}
		w.changes = append(w.changes, change)
	}
	if message.GetChange() != nil || message.GetSnapshot() != nil {
		w.revision = message.Revision
	}
	return message
}

func (w *watch) untilSynced() {
	w.t.Helper()
	for w.event().GetSynced() == nil {
	}
}

func (w *watch) untilStatus(wanted pb.PeerStatus) *pb.Change {
	w.t.Helper()
	for {
		if change := w.event().GetChange(); change != nil && change.Peer != nil && change.Peer.Peer.Status == wanted {
			return change
		}
	}
}

// untilEnd reads to the end of the stream and returns why it ended; nil is OK.
func (w *watch) untilEnd() error {
	w.t.Helper()
	for {
		select {
		case <-w.messages:
		case err := <-w.ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-time.After(patience):
			w.t.Fatalf("the stream did not end within %v", patience)
		}
	}
}

// statuses are those the peer went through, changes of the reason alone left out.
func (w *watch) statuses() string {
	var seen []pb.PeerStatus
	for _, change := range w.changes {
		if change.Peer != nil {
			seen = append(seen, change.Peer.Peer.Status)
		}
	}
	return fmt.Sprint(slices.Compact(seen))
}

func detail[T proto.Message](t *testing.T, err error) T {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if found, ok := detail.(T); ok {
			return found
		}
	}
	var missing T
	t.Fatalf("no %T in %v", missing, err)
	return missing
}

func assertError(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("expected %v, got %v", code, err)
	}
	if info := detail[*errdetails.ErrorInfo](t, err); info.Domain != "opflex.peerstatus" || info.Reason != reason {
		t.Fatalf("expected reason %s, got %v", reason, info)
	}
}

func assertEqual[T comparable](t *testing.T, what string, got, expected T) {
	t.Helper()
	if got != expected {
		t.Fatalf("%s: got %v, expected %v", what, got, expected)
	}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// until asks again and again, with a deadline.
func until(t *testing.T, what string, condition func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !condition(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v in vain for %s", patience, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestALifeOfAPeerIsToldInOrderAndNothingIsMissedWhenTheChannelBreaks(t *testing.T) {
	port := reservePort(t)
	service := startService(t, fmt.Sprintf("127.0.0.1:%d", port))
	connection := dial(t, service.address)
	listeners := pb.NewPeerStatusServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()

	// A listener, before its peer exists.
	created, err := listeners.CreateListener(ctx, &pb.CreateListenerRequest{UserData: userData})
	if err != nil {
		t.Fatal(err)
	}
	name := created.Listener.Name
	if !regexp.MustCompile(`^listeners/[a-z0-9-]{1,63}$`).MatchString(name) {
		t.Fatalf("not a listener's name: %q", name)
	}
	w := startWatch(t, connection, &pb.WatchPeerStatusRequest{Listener: name, ResumeAfter: created.Cursor})
	assertEqual(t, "resumed", w.attached.Resumed, true)
	assertEqual(t, "user_data of attached", w.userData, string(userData))
	w.untilSynced()

	// Up, down, up.
	peer := startPeer(t, port)
	ready := w.untilStatus(pb.PeerStatus_PEER_STATUS_READY)
	assertEqual(t, "the last step", strings.HasSuffix(w.statuses(), "PEER_STATUS_CONNECTED PEER_STATUS_READY]"), true)
	assertEqual(t, "reason", ready.Peer.Peer.Reason, pb.Reason_REASON_HANDSHAKE_COMPLETE)
	assertEqual(t, "health", ready.Health.GetHealth(), pb.PoolHealth_POOL_HEALTH_HEALTHY)
	assertEqual(t, "cause of the health", ready.Health.Cause, fmt.Sprintf("pools/default/peers/127.0.0.1:%d", port))
	peer.kill()
	lost := w.untilStatus(pb.PeerStatus_PEER_STATUS_CONNECTING)
	assertEqual(t, "reason", lost.Peer.Peer.Reason, pb.Reason_REASON_REMOTE_CLOSED)
	assertEqual(t, "health", lost.Health.GetHealth(), pb.PoolHealth_POOL_HEALTH_DOWN)
	peer = startPeer(t, port)
	w.untilStatus(pb.PeerStatus_PEER_STATUS_READY)

	// The channel breaks, and things happen meanwhile.
	lastSeen := &pb.Cursor{Epoch: created.Cursor.Epoch, Revision: w.revision}
	_ = connection.Close()
	connection = dial(t, service.address)
	listeners = pb.NewPeerStatusServiceClient(connection)
	pools := pb.NewPoolServiceClient(connection)
	until(t, "the listener to be detached", func(ctx context.Context) bool {
		got, err := listeners.GetListener(ctx, &pb.GetListenerRequest{Name: name})
		return err == nil && got.Listener.State == pb.ListenerState_LISTENER_STATE_DETACHED
	})
	hasStatus := func(wanted pb.PeerStatus) func(context.Context) bool {
		return func(ctx context.Context) bool {
			got, err := pools.GetPeer(ctx, &pb.GetPeerRequest{Name: ready.Peer.Peer.Name})
			return err == nil && got.Peer.Status == wanted
		}
	}
	peer.kill()
	until(t, "the loss", hasStatus(pb.PeerStatus_PEER_STATUS_CONNECTING))
	startPeer(t, port)
	until(t, "the return", hasStatus(pb.PeerStatus_PEER_STATUS_READY))
	again := startWatch(t, connection, &pb.WatchPeerStatusRequest{Listener: name, ResumeAfter: lastSeen})
	assertEqual(t, "resumed", again.attached.Resumed, true)
	assertEqual(t, "place of resumption", again.revision, lastSeen.Revision)
	again.untilSynced()
	assertEqual(t, "what was missed", again.statuses(), "[PEER_STATUS_CONNECTING PEER_STATUS_CONNECTED PEER_STATUS_READY]")

	// The log from its beginning says the same as the two streams did.
	history := startWatch(t, connection, &pb.WatchPeerStatusRequest{
		ResumeAfter:   &pb.Cursor{Epoch: created.Cursor.Epoch},
		StopAfterSync: true,
	})
	history.untilSynced()
	if err := history.untilEnd(); err != nil {
		t.Fatalf("stop_after_sync must end with OK, not %v", err)
	}
	assertEqual(t, "the first change", history.changes[0].Peer.Kind, pb.ChangeKind_CHANGE_KIND_ADDED)
	told := append(w.changes, again.changes...)
	before := len(history.changes) - len(told)
	if before < 0 || !slices.EqualFunc(history.changes[before:], told, func(a, b *pb.Change) bool { return proto.Equal(a, b) }) {
		t.Fatalf("told\n%v\nbut the log has\n%v", told, history.changes)
	}

	// The end of the listener.
	destroy := func(request *pb.DestroyListenerRequest) error {
		_, err := listeners.DestroyListener(ctx, request)
		return err
	}
	if err := destroy(&pb.DestroyListenerRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	assertError(t, again.untilEnd(), codes.Canceled, "LISTENER_DESTROYED")
	assertError(t, destroy(&pb.DestroyListenerRequest{Name: name}), codes.NotFound, "LISTENER_NOT_FOUND")
	if err := destroy(&pb.DestroyListenerRequest{Name: name, AllowMissing: true}); err != nil {
		t.Fatal(err)
	}
}

func TestABadNameIsRefusedWithTheFieldThatHasIt(t *testing.T) {
	connection := dial(t, startService(t).address)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := pb.NewPeerStatusServiceClient(connection).CreateListener(ctx, &pb.CreateListenerRequest{ListenerId: "Bad Name!"})
	assertError(t, err, codes.InvalidArgument, "BAD_NAME")
	violations := detail[*errdetails.BadRequest](t, err).FieldViolations
	if len(violations) != 1 || violations[0].Field != "listener_id" || violations[0].Description == "" {
		t.Fatalf("expected one violation, of listener_id: %v", violations)
	}
}
