import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import opflex.peerstatus.v1.Attached;
import opflex.peerstatus.v1.Change;
import opflex.peerstatus.v1.PeerStatus;
import opflex.peerstatus.v1.PeerStatusServiceGrpc;
import opflex.peerstatus.v1.WatchPeerStatusRequest;
import opflex.peerstatus.v1.WatchPeerStatusResponse;
import opflex.peerstatus.v1.WatchPeerStatusResponse.EventCase;

/** A stream that checks on every message what the contract promises about all of them. */
final class Watch implements StreamObserver<WatchPeerStatusResponse> {
    /** Far beyond what anything here takes: it ends a hang, it measures nothing. */
    static final int PATIENCE_S = 20;

    final Attached attached;
    final ByteString userData;
    final List<Change> changes = new ArrayList<>();

    /** A message, or the status at the end. */
    private record Received(WatchPeerStatusResponse message, Status status, Metadata trailers) {}

    private final BlockingQueue<Received> received = new LinkedBlockingQueue<>();
    private Received last;
    private long revision;

    Watch(ManagedChannel channel, WatchPeerStatusRequest request) throws InterruptedException {
        PeerStatusServiceGrpc.newStub(channel).withWaitForReady().watchPeerStatus(request, this);
        WatchPeerStatusResponse first = next();
        Life.check(first != null && first.hasAttached(), "the first message must be attached");
        attached = first.getAttached();
        userData = first.getUserData();
        revision = attached.getCursor().getRevision();
    }

    @Override
    public void onNext(WatchPeerStatusResponse message) {
        received.add(new Received(message, null, null));
    }

    @Override
    public void onError(Throwable error) {
        received.add(new Received(null, Status.fromThrowable(error), Status.trailersFromThrowable(error)));
    }

    @Override
    public void onCompleted() {
        received.add(new Received(null, Status.OK, null));
    }

    /** The revision of the last message. */
    long revision() {
        return revision;
    }

    /** The metadata at the end. */
    Metadata trailers() {
        return last.trailers;
    }

    void untilSynced() throws InterruptedException {
        while (!event().hasSynced()) {}
    }

    Change untilStatus(PeerStatus wanted) throws InterruptedException {
        while (true) {
            Change change = event().getChange();
            if (change.hasPeer() && change.getPeer().getPeer().getStatus() == wanted) {
                return change;
            }
        }
    }

    /** Reads to the end of the stream and returns its status. */
    Status untilEnd() throws InterruptedException {
        while (nextChecked() != null) {}
        return last.status;
    }

    private WatchPeerStatusResponse event() throws InterruptedException {
        WatchPeerStatusResponse message = nextChecked();
        Life.check(message != null, "the stream has ended: " + last.status);
        return message;
    }

    /** The next message after its place in the order was checked; null at the end. */
    private WatchPeerStatusResponse nextChecked() throws InterruptedException {
        WatchPeerStatusResponse message = next();
        if (message == null) {
            return null;
        }
        EventCase event = message.getEventCase();
        if (event == EventCase.CHANGE) {
            Life.same(message.getPreviousRevision(), revision);
            Life.check(Long.compareUnsigned(message.getRevision(), revision) > 0, "revisions must grow");
            Life.same(message.getUserData(), userData);
            changes.add(message.getChange());
        }
        if (event == EventCase.CHANGE || event == EventCase.SNAPSHOT) {
            revision = message.getRevision();
        }
        return message;
    }

    private WatchPeerStatusResponse next() throws InterruptedException {
        last = received.poll(PATIENCE_S, TimeUnit.SECONDS);
        Life.check(last != null, "silence");
        return last.message;
    }
}
