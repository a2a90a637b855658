package watch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1 "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

const (
	domain            = "opflex.peerstatus"
	shortestPause     = 250 * time.Millisecond
	longestPause      = 10 * time.Second
	longestRetryAfter = time.Minute
	mostDoublings     = 10
	firstMessage      = 10 * time.Second
	// Three heartbeats, and 5 s for delays: a proxy can keep a connection open that delivers nothing.
	silence    = 3*15*time.Second + 5*time.Second
	mostCauses = 8 // of one outage: texts of proxies may differ each time
)

var (
	errEnded = errors.New("the stream ended")
	errChain = errors.New("a change does not follow the one before it")
)

// What the service would refuse again. A proxy's error may have the same code, but has no reason of the service.
var permanent = []codes.Code{
	codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
	codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated,
}

// session is a watch as a value: messages and errors in, changes and pauses out.
type session struct {
	filter   *v1.ListenerFilter
	listener string
	userData []byte

	cursor      *v1.Cursor
	wasAttached bool
	failures    int
	retryAfter  time.Duration
	causes      map[string]bool

	firstMessage, silence time.Duration

	// Of the present stream.
	epoch, last uint64
	snapshot    *v1.Snapshot
}

func (s *session) createRequest() *v1.CreateListenerRequest {
	return &v1.CreateListenerRequest{ListenerId: s.listener, Filter: s.filter, UserData: s.userData}
}

// The request of the next stream.
func (s *session) watchRequest() *v1.WatchPeerStatusRequest {
	s.epoch, s.last, s.snapshot = 0, 0, nil
	request := &v1.WatchPeerStatusRequest{ResumeAfter: s.cursor}
	if s.listener != "" {
		request.Listener, request.Takeover = "listeners/"+s.listener, true
	} else {
		request.Filter, request.UserData = s.filter, s.userData
	}
	return request
}

// How long to wait for the next message of the stream.
func (s *session) patience() time.Duration {
	if s.epoch == 0 {
		return s.firstMessage
	}
	return s.silence
}

// The change that the message contains, if any. `advance` follows when it was handled.
func (s *session) receive(message *v1.WatchPeerStatusResponse) (*Change, error) {
	switch event := message.Event.(type) {
	case *v1.WatchPeerStatusResponse_Attached:
		return nil, s.attached(event.Attached)
	case *v1.WatchPeerStatusResponse_Reset_:
		s.cursor, s.snapshot = nil, &v1.Snapshot{}
		return &Change{Gap: &Gap{Reason: event.Reset_.Reason, Missed: event.Reset_.MissedCount}}, nil
	case *v1.WatchPeerStatusResponse_Snapshot:
		if s.snapshot == nil {
			s.snapshot = &v1.Snapshot{}
		}
		s.last = message.Revision
		proto.Merge(s.snapshot, event.Snapshot)
		return nil, nil
	case *v1.WatchPeerStatusResponse_Synced:
		if s.snapshot != nil {
			snapshot := s.snapshot
			s.snapshot = nil
			return &Change{Cursor: event.Synced.Cursor, Snapshot: snapshot}, nil
		}
		return &Change{Cursor: event.Synced.Cursor, Resumed: true}, nil
	case *v1.WatchPeerStatusResponse_Change:
		return s.change(message, event.Change)
	case *v1.WatchPeerStatusResponse_Draining:
		s.retryAfter = event.Draining.GetRetryAfter().AsDuration()
	}
	s.advance(&v1.Cursor{Epoch: s.epoch, Revision: message.Revision})
	return nil, nil
}

func (s *session) attached(attached *v1.Attached) error {
	if s.listener != "" && !sameFilter(attached.GetListener().GetFilter(), s.filter) {
		err := status.Errorf(codes.AlreadyExists, "listeners/%s exists with another filter", s.listener)
		return &RefusedError{Reason: "LISTENER_EXISTS", Err: err}
	}
	s.wasAttached = true
	s.epoch, s.last = attached.GetCursor().GetEpoch(), attached.GetCursor().GetRevision()
	return nil
}

func (s *session) change(message *v1.WatchPeerStatusResponse, change *v1.Change) (*Change, error) {
	if message.PreviousRevision != s.last {
		err := fmt.Errorf("%w: it follows %d, and %d was received", errChain, message.PreviousRevision, s.last)
		s.cursor = nil
		return &Change{Gap: &Gap{}}, err
	}
	s.last = message.Revision
	return &Change{
		Cursor:           &v1.Cursor{Epoch: s.epoch, Revision: message.Revision},
		PreviousRevision: message.PreviousRevision,
		Peer:             change.Peer,
		Health:           change.Health,
		Node:             change.Node,
	}, nil
}

// Everything up to the cursor was handled: the next stream begins there.
func (s *session) advance(cursor *v1.Cursor) {
	if cursor != nil {
		s.cursor, s.failures = cursor, 0
		clear(s.causes)
	}
}

// Whether the present outage has not had this cause yet. Numbers in its text, such as ports, do not make another one.
func (s *session) isNewCause(err error) bool {
	cause := strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, err.Error())
	if s.causes[cause] || len(s.causes) >= mostCauses {
		return false
	}
	s.causes[cause] = true
	return true
}

// The pause before the next attempt: as the service asked, or a random part of a time that doubles.
func (s *session) pause() time.Duration {
	longest := min(longestPause, shortestPause<<s.failures)
	s.failures = min(s.failures+1, mostDoublings)
	asked := min(s.retryAfter, longestRetryAfter)
	s.retryAfter = 0
	return max(asked, rand.N(longest))
}

// A RefusedError for what would be refused again; the error itself for what is worth another attempt.
func (s *session) lost(err error) error {
	reason, retryAfter := details(err)
	s.retryAfter = max(s.retryAfter, retryAfter)
	// After a connection that broke unnoticed, our own stream is what is still attached; and a token file may hold another one by now.
	isOurs := s.wasAttached && (reason == "LISTENER_ATTACHED" || reason == "TOKEN_EXPIRED")
	if reason == "" || isOurs || reason == "LISTENER_NOT_FOUND" || !slices.Contains(permanent, status.Code(err)) {
		return err
	}
	return &RefusedError{Reason: reason, Err: err}
}

// The reason of an error of the service, and the pause that it asks for.
func details(err error) (reason string, retryAfter time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == domain {
				reason = detail.Reason
			}
		case *errdetails.RetryInfo:
			retryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return reason, retryAfter
}

func sameFilter(one, other *v1.ListenerFilter) bool {
	if one == nil {
		one = &v1.ListenerFilter{}
	}
	return proto.Equal(sorted(one), sorted(other))
}

func sorted(filter *v1.ListenerFilter) *v1.ListenerFilter {
	filter = proto.CloneOf(filter)
	for _, globs := range []*[]string{&filter.Pools, &filter.Peers, &filter.Nodes} {
		slices.Sort(*globs)
		*globs = slices.Compact(*globs)
	}
	slices.Sort(filter.Statuses)
	filter.Statuses = slices.Compact(filter.Statuses)
	return filter
}
