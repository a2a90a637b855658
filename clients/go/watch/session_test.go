package watch

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

const epoch = 7

func at(revision uint64) *v1.Cursor { return &v1.Cursor{Epoch: epoch, Revision: revision} }

func attached(revision uint64, filter *v1.ListenerFilter) *v1.WatchPeerStatusResponse {
	event := &v1.Attached{Listener: &v1.Listener{Filter: filter}, Cursor: at(revision)}
	return &v1.WatchPeerStatusResponse{Revision: revision, Event: &v1.WatchPeerStatusResponse_Attached{Attached: event}}
}

func snapshot(revision uint64, hosts ...string) *v1.WatchPeerStatusResponse {
	event := &v1.Snapshot{}
	for _, host := range hosts {
		event.Peers = append(event.Peers, &v1.Peer{Host: host})
	}
	return &v1.WatchPeerStatusResponse{Revision: revision, Event: &v1.WatchPeerStatusResponse_Snapshot{Snapshot: event}}
}

func synced(revision uint64) *v1.WatchPeerStatusResponse {
	event := &v1.WatchPeerStatusResponse_Synced{Synced: &v1.Synced{Cursor: at(revision)}}
	return &v1.WatchPeerStatusResponse{Revision: revision, Event: event}
}

func changed(previous, revision uint64) *v1.WatchPeerStatusResponse {
	change := &v1.Change{Peer: &v1.PeerChange{Peer: &v1.Peer{Host: "a"}}}
	event := &v1.WatchPeerStatusResponse_Change{Change: change}
	return &v1.WatchPeerStatusResponse{Revision: revision, PreviousRevision: previous, Event: event}
}

func reset() *v1.WatchPeerStatusResponse {
	event := &v1.Reset{Reason: v1.ResetReason_RESET_REASON_OVERFLOW, MissedCount: 3}
	return &v1.WatchPeerStatusResponse{Event: &v1.WatchPeerStatusResponse_Reset_{Reset_: event}}
}

func receive(s *session, messages ...*v1.WatchPeerStatusResponse) (changes []*Change, err error) {
	s.watchRequest()
	for _, message := range messages {
		change, failure := s.receive(message)
		if change != nil {
			changes = append(changes, change)
		}
		if failure != nil {
			return changes, failure
		}
	}
	return changes, nil
}

func newSession(options ...Option) *session {
	return New(nil, options...).session
}

func TestSnapshotOfSeveralMessagesIsOne(t *testing.T) {
	s := newSession()
	changes, err := receive(s, attached(5, nil), snapshot(5, "a", "b"), snapshot(5, "c"), synced(5), changed(5, 6))
	if err != nil || len(changes) != 2 || len(changes[0].Snapshot.Peers) != 3 {
		t.Fatal(changes, err)
	}
	if changes[1].Cursor.Revision != 6 || changes[1].PreviousRevision != 5 || changes[1].Peer.Peer.Host != "a" {
		t.Error(changes[1])
	}
	if s.cursor != nil {
		t.Error("the cursor moves when the change was handled")
	}
	s.advance(changes[1].Cursor)
	if !proto.Equal(s.watchRequest().ResumeAfter, at(6)) {
		t.Error(s.cursor)
	}
}

func TestEmptySnapshotIsTold(t *testing.T) {
	changes, _ := receive(newSession(), attached(0, nil), snapshot(0), synced(0))
	if len(changes) != 1 || changes[0].Snapshot == nil {
		t.Error(changes)
	}
}

func TestResumptionIsToldAfterWhatWasMissed(t *testing.T) {
	changes, err := receive(newSession(ResumeAfter(at(5))), attached(5, nil), changed(5, 6), synced(6))
	if err != nil || len(changes) != 2 || !changes[1].Resumed || changes[1].Cursor.Revision != 6 {
		t.Error(changes, err)
	}
}

func TestCauseIsNewOnceInAnOutage(t *testing.T) {
	s := newSession()
	isNew := func(text string) bool { return s.isNewCause(errors.New(text)) }
	if !isNew("write 127.0.0.1:40902: broken pipe") || !isNew("reset") || isNew("write 127.0.0.1:40903: broken pipe") || isNew("reset") {
		t.Error("a cause is new once, whatever its numbers")
	}
	count := 0
	for length := range 100 {
		if isNew(strings.Repeat("x", length)) {
			count++
		}
	}
	if count != mostCauses-2 {
		t.Error(count)
	}
	s.advance(at(5))
	if !isNew("reset") {
		t.Error("another outage")
	}
}

func TestResetIsAGapAndStartsAnew(t *testing.T) {
	s := newSession(ResumeAfter(at(5)))
	changes, _ := receive(s, attached(5, nil), reset(), snapshot(9, "a"))
	if len(changes) != 1 || *changes[0].Gap != (Gap{Reason: v1.ResetReason_RESET_REASON_OVERFLOW, Missed: 3}) {
		t.Error(changes)
	}
	if s.watchRequest().ResumeAfter != nil {
		t.Error("it asks for another snapshot")
	}
	changes, _ = receive(s, attached(9, nil), snapshot(9, "b"), synced(9))
	if len(changes) != 1 || changes[0].Snapshot.Peers[0].Host != "b" || len(changes[0].Snapshot.Peers) != 1 {
		t.Error(changes)
	}
}

func TestChangeThatDoesNotFollowIsAGap(t *testing.T) {
	s := newSession(ResumeAfter(at(5)))
	changes, err := receive(s, attached(5, nil), changed(6, 7))
	if !errors.Is(err, errChain) || len(changes) != 1 || changes[0].Gap == nil || s.cursor != nil {
		t.Error(changes, err, s.cursor)
	}
}

func TestListenerWithAnotherFilterIsRefused(t *testing.T) {
	s := newSession(Listener("mine"), Pools("b", "a"))
	if _, err := receive(s, attached(1, &v1.ListenerFilter{Pools: []string{"a", "b"}})); err != nil {
		t.Error(err)
	}
	refused := (*RefusedError)(nil)
	if _, err := receive(s, attached(1, nil)); !errors.As(err, &refused) || refused.Reason != "LISTENER_EXISTS" {
		t.Error(err)
	}
}

func failure(code codes.Code, reason, domain string, retryAfter time.Duration) error {
	details := []protoadapt.MessageV1{&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}}
	if reason != "" {
		details = append(details, &errdetails.ErrorInfo{Reason: reason, Domain: domain})
	}
	failed, err := status.New(code, "no").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return failed.Err()
}

func TestOnlyTheServiceRefuses(t *testing.T) {
	for _, code := range permanent {
		for _, domain := range []string{"", "elsewhere", "opflex.peerstatus"} {
			refused := (*RefusedError)(nil)
			err := newSession().lost(failure(code, "ANY", domain, 0))
			if errors.As(err, &refused) != (domain == "opflex.peerstatus") {
				t.Error(code, domain, err)
			}
		}
	}
	s := newSession()
	expired := failure(codes.Unauthenticated, "TOKEN_EXPIRED", domain, 0)
	if refused := (*RefusedError)(nil); !errors.As(s.lost(expired), &refused) {
		t.Error("a token that never was good")
	}
	s.wasAttached = true
	if refused := (*RefusedError)(nil); errors.As(s.lost(expired), &refused) {
		t.Error("the file may hold another token by now")
	}
}

func TestPauses(t *testing.T) {
	s, longest := newSession(), time.Duration(0)
	if first := s.pause(); first > shortestPause {
		t.Error(first)
	}
	for range 200 {
		longest = max(longest, s.pause())
	}
	if longest > 10*time.Second || longest < 5*time.Second {
		t.Error(longest)
	}
	_ = s.lost(failure(codes.Unavailable, "DRAINING", domain, 30*time.Second))
	if pause := s.pause(); pause != 30*time.Second {
		t.Error(pause)
	}
	_ = s.lost(failure(codes.Unavailable, "DRAINING", domain, time.Hour))
	if pause := s.pause(); pause != time.Minute {
		t.Error(pause)
	}
}
