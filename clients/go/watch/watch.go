// Package watch watches the status of OpFlex peers, and goes on where it was when the connection breaks or the service is
// started again.
//
//	conn, err := grpc.NewClient("127.0.0.1:50051", grpc.WithTransportCredentials(insecure.NewCredentials()), watch.Keepalive())
//	…
//	err = watch.New(conn, watch.Pools("default")).Run(ctx, func(change watch.Change) {
//		switch {
//		case change.Snapshot != nil: // the whole state: replaces what was known
//		case change.Gap != nil: // changes were missed; a snapshot follows
//		case change.Lost != nil: // the service is away: what is known gets old
//		case change.Resumed: // it is back, and nothing was missed
//		default: // change.Peer, change.Health or change.Node
//		}
//	})
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	v1 "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

const callTimeout = 10 * time.Second

// Change is what a watcher hands over. A change of a peer, and the change of health that it causes, are one. Of the other fields, one
// is set.
type Change struct {
	// Cursor is the position after the snapshot or the change, and with Resumed. It can be stored, and given to ResumeAfter.
	Cursor *v1.Cursor
	// PreviousRevision is that of the snapshot or the change before it.
	PreviousRevision uint64

	Peer   *v1.PeerChange
	Health *v1.HealthChange
	Node   *v1.NodeChange

	// Snapshot is the whole state, as far as the filter selects it. It replaces what was known before.
	Snapshot *v1.Snapshot
	// Gap says that changes were missed; a snapshot follows.
	Gap *Gap
	// Lost says that the service cannot be reached, so what is known gets old. It is reported once for each cause, whatever the
	// numbers in its text, and at most eight times. When the service is back, changes that were missed follow and then Resumed, or a
	// gap, or a snapshot.
	Lost error
	// Resumed says that the stream goes on where it was, and that everything that happened meanwhile was handed over before: what is
	// known is up to date.
	Resumed bool
}

// Gap says that changes were missed.
type Gap struct {
	// Reason is unspecified if a change was lost on the way, which no service does.
	Reason v1.ResetReason
	// Missed is the number of changes; 0: it is not known.
	Missed uint64
}

// RefusedError is returned when the service refused the request, and would refuse it again.
type RefusedError struct {
	// Reason is that of the error, such as BAD_FILTER; docs/api.md lists them.
	Reason string
	// Err is the status.
	Err error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%v (%s)", e.Err, e.Reason) }

// Unwrap returns the status.
func (e *RefusedError) Unwrap() error { return e.Err }

// Option is an option of New.
type Option func(*session)

// Pools selects pools by globs.
func Pools(globs ...string) Option { return func(s *session) { s.filter.Pools = globs } }

// Peers selects peers by globs of HOST:PORT.
func Peers(globs ...string) Option { return func(s *session) { s.filter.Peers = globs } }

// Nodes selects nodes of a fleet by globs.
func Nodes(globs ...string) Option { return func(s *session) { s.filter.Nodes = globs } }

// Statuses selects the changes that enter or leave one of them.
func Statuses(statuses ...v1.PeerStatus) Option {
	return func(s *session) { s.filter.Statuses = statuses }
}

// HealthOnly selects the changes of the health of pools.
func HealthOnly() Option {
	return func(s *session) { s.filter.Interests = []v1.Interest{v1.Interest_INTEREST_HEALTH} }
}

// Listener names the listener, which then outlives its streams and is shown by `peerstatus listeners list`. Another watcher with
// the same name takes over, and Run of this one returns a RefusedError. Without a name, the stream is its own listener.
func Listener(id string) Option { return func(s *session) { s.listener = id } }

// UserData is kept with the listener: at most 4,096 bytes.
func UserData(data []byte) Option { return func(s *session) { s.userData = data } }

// ResumeAfter goes on where an earlier watcher was.
func ResumeAfter(cursor *v1.Cursor) Option { return func(s *session) { s.cursor = cursor } }

// Keepalive detects a connection that broke silently. It is for grpc.NewClient.
func Keepalive() grpc.DialOption {
	return grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second})
}

// Watcher watches on a connection.
type Watcher struct {
	conn    *grpc.ClientConn
	stub    v1.PeerStatusServiceClient
	session *session
}

// New returns a watcher. The connection has the credentials: those of TLS, and TokenFile.
func New(conn *grpc.ClientConn, options ...Option) *Watcher {
	s := &session{filter: &v1.ListenerFilter{}, causes: map[string]bool{}, firstMessage: firstMessage, silence: silence}
	for _, option := range options {
		option(s)
	}
	return &Watcher{conn: conn, stub: v1.NewPeerStatusServiceClient(conn), session: s}
}

// Run hands over all changes, one after the other, until the context ends, when it returns its error, or until the service refuses
// what would be refused again, when it returns a RefusedError. Everything else is tried again, after at most 10 s. It must not be
// called a second time.
func (w *Watcher) Run(ctx context.Context, handle func(Change)) error {
	for {
		err := w.stream(ctx, handle)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			return err
		}
		if w.session.isNewCause(err) && !errors.Is(err, errChain) {
			handle(Change{Lost: err})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(w.session.pause()):
		}
		w.conn.ResetConnectBackoff() // gRPC's own pauses grow up to two minutes
	}
}

// One stream, to its end.
func (w *Watcher) stream(ctx context.Context, handle func(Change)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := w.session
	if s.listener != "" {
		if err := w.create(ctx); err != nil {
			return s.lost(err)
		}
	}
	stream, err := w.stub.WatchPeerStatus(ctx, s.watchRequest())
	if err != nil {
		return s.lost(err)
	}
	for {
		timer := time.AfterFunc(s.patience(), cancel)
		message, err := stream.Recv()
		if !timer.Stop() && err != nil {
			return fmt.Errorf("no message from the service for %v", s.patience())
		}
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return s.lost(err)
		}
		change, err := s.receive(message)
		if change != nil {
			handle(*change)
			s.advance(change.Cursor)
		}
		if err != nil {
			return err
		}
	}
}

func (w *Watcher) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := w.stub.CreateListener(ctx, w.session.createRequest())
	if reason, _ := details(err); reason == "LISTENER_EXISTS" {
		return nil
	}
	return err
}
