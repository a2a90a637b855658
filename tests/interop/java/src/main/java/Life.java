import static opflex.peerstatus.v1.PeerStatus.PEER_STATUS_CONNECTED;
import static opflex.peerstatus.v1.PeerStatus.PEER_STATUS_CONNECTING;
import static opflex.peerstatus.v1.PeerStatus.PEER_STATUS_READY;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import opflex.peerstatus.v1.AddPeerRequest;
import opflex.peerstatus.v1.Change;
import opflex.peerstatus.v1.ChangeKind;
import opflex.peerstatus.v1.CreateListenerRequest;
import opflex.peerstatus.v1.Cursor;
import opflex.peerstatus.v1.DestroyListenerRequest;
import opflex.peerstatus.v1.PeerStatus;
import opflex.peerstatus.v1.PeerStatusServiceGrpc;
import opflex.peerstatus.v1.PoolHealth;
import opflex.peerstatus.v1.PoolServiceGrpc;
import opflex.peerstatus.v1.Reason;
import opflex.peerstatus.v1.WatchPeerStatusRequest;

/**
 * A Java client against the real service: the life of a peer, a broken connection, errors. Run by `make interop-java`, which has
 * ../python/stage.py play the world around it; that file has the orders, too.
 */
public final class Life {
    private static final ByteString USER_DATA =
            ByteString.copyFrom(new byte[] {0, ' ', 'o', 'p', 'a', 'q', 'u', 'e', ' ', (byte) 0xff, ' ', 'b', 'y', 't', 'e', 's'});

    private final ManagedChannel channel =
            Grpc.newChannelBuilder(System.getenv("PEERSTATUS"), InsecureChannelCredentials.create()).build();
    private final BufferedReader answers = new BufferedReader(new InputStreamReader(System.in));

    private Life() {}

    public static void main(String[] arguments) throws Exception {
        Life life = new Life();
        try {
            life.run();
        } finally {
            life.channel.shutdownNow();
            life.channel.awaitTermination(Watch.PATIENCE_S, TimeUnit.SECONDS);
        }
    }

    private void run() throws Exception {
        // A listener, before its peer exists.
        var created = listeners().createListener(CreateListenerRequest.newBuilder().setUserData(USER_DATA).build());
        String listener = created.getListener().getName();
        check(listener.matches("listeners/[a-z0-9-]{1,63}"), listener);
        var attach = WatchPeerStatusRequest.newBuilder().setListener(listener).setResumeAfter(created.getCursor()).build();
        Watch watch = new Watch(channel, attach);
        check(watch.attached.getResumed(), watch.attached);
        check(watch.userData.equals(USER_DATA), watch.userData);
        watch.untilSynced();

        upDownUp(watch);

        // The connection breaks, and things happen meanwhile.
        order("cut");
        check(!watch.untilEnd().isOk(), "a broken connection must not look like OK");
        Cursor last = created.getCursor().toBuilder().setRevision(watch.revision()).build();
        order("peer down");
        order("peer up");
        order("mend");
        Watch again = new Watch(channel, attach.toBuilder().setResumeAfter(last).setTakeover(true).build());
        check(again.attached.getResumed() && again.attached.getCursor().equals(last), again.attached);
        check(again.userData.equals(USER_DATA), again.userData);
        again.untilSynced();
        same(statuses(again.changes), List.of(PEER_STATUS_CONNECTING, PEER_STATUS_CONNECTED, PEER_STATUS_READY));

        // The log says the same as the two streams did: nothing is missing, nothing came twice.
        var past = WatchPeerStatusRequest.newBuilder().setResumeAfter(created.getCursor()).setStopAfterSync(true).build();
        Watch history = new Watch(channel, past);
        check(history.untilEnd().isOk(), "stop_after_sync must end with OK");
        List<Change> both = new ArrayList<>(watch.changes);
        both.addAll(again.changes);
        same(both, history.changes);

        destroy(listener, again);
    }

    /** A peer is added, comes up, goes down and comes up again. */
    private void upDownUp(Watch watch) throws Exception {
        int port = Integer.parseInt(System.getenv("PEER_PORT"));
        var add = AddPeerRequest.newBuilder().setParent("pools/default").setHost("127.0.0.1").setPort(port).build();
        var pools = PoolServiceGrpc.newBlockingStub(channel).withWaitForReady();
        var peer = pools.withDeadlineAfter(Watch.PATIENCE_S, TimeUnit.SECONDS).addPeer(add).getPeer();
        order("peer up");
        Change ready = watch.untilStatus(PEER_STATUS_READY);
        var added = watch.changes.get(0).getPeer();
        same(List.of(added.getKind(), added.getPeer().getReason()), List.of(ChangeKind.CHANGE_KIND_ADDED, Reason.REASON_ADDED));
        same(statuses(watch.changes), List.of(PEER_STATUS_CONNECTING, PEER_STATUS_CONNECTED, PEER_STATUS_READY));
        same(ready.getPeer().getPeer().getReason(), Reason.REASON_HANDSHAKE_COMPLETE);
        same(ready.getHealth().getHealth(), PoolHealth.POOL_HEALTH_HEALTHY);
        same(ready.getHealth().getCause(), peer.getName());
        order("peer down");
        Change lost = watch.untilStatus(PEER_STATUS_CONNECTING);
        same(lost.getPeer().getPeer().getReason(), Reason.REASON_REMOTE_CLOSED);
        same(lost.getHealth().getHealth(), PoolHealth.POOL_HEALTH_DOWN);
        order("peer up");
        watch.untilStatus(PEER_STATUS_READY);
    }

    /** The end of the listener, and errors with their details. */
    private void destroy(String listener, Watch watch) throws Exception {
        var destroy = DestroyListenerRequest.newBuilder().setName(listener).build();
        listeners().destroyListener(destroy);
        checkError(watch.untilEnd().asRuntimeException(watch.trailers()), Status.Code.CANCELLED, "LISTENER_DESTROYED");
        refused(() -> listeners().destroyListener(destroy), Status.Code.NOT_FOUND, "LISTENER_NOT_FOUND");
        var bad = CreateListenerRequest.newBuilder().setListenerId("Bad Name!").build();
        var error = refused(() -> listeners().createListener(bad), Status.Code.INVALID_ARGUMENT, "BAD_NAME");
        var violations = detail(error, BadRequest.class).getFieldViolationsList();
        same(violations.stream().map(BadRequest.FieldViolation::getField).toList(), List.of("listener_id"));
        check(!violations.get(0).getDescription().isEmpty(), "a violation must say what is wrong");
    }

    private PeerStatusServiceGrpc.PeerStatusServiceBlockingStub listeners() {
        return PeerStatusServiceGrpc.newBlockingStub(channel).withWaitForReady().withDeadlineAfter(Watch.PATIENCE_S, TimeUnit.SECONDS);
    }

    private void order(String what) throws IOException {
        System.out.println(what);
        same(answers.readLine(), "ok");
    }

    /** The statuses that a peer went through; changes of the reason alone left out. */
    private static List<PeerStatus> statuses(List<Change> changes) {
        List<PeerStatus> all = new ArrayList<>();
        for (Change change : changes) {
            PeerStatus status = change.getPeer().getPeer().getStatus();
            if (change.hasPeer() && (all.isEmpty() || all.get(all.size() - 1) != status)) {
                all.add(status);
            }
        }
        return all;
    }

    private static StatusRuntimeException refused(Runnable call, Status.Code code, String reason) throws InvalidProtocolBufferException {
        try {
            call.run();
        } catch (StatusRuntimeException error) {
            return checkError(error, code, reason);
        }
        throw new AssertionError("not refused: " + reason);
    }

    private static StatusRuntimeException checkError(StatusRuntimeException error, Status.Code code, String reason)
            throws InvalidProtocolBufferException {
        same(error.getStatus().getCode(), code);
        ErrorInfo info = detail(error, ErrorInfo.class);
        same(List.of(info.getDomain(), info.getReason()), List.of("opflex.peerstatus", reason));
        return error;
    }

    /** A detail of an error, decoded from grpc-status-details-bin. */
    private static <T extends com.google.protobuf.Message> T detail(StatusRuntimeException error, Class<T> type)
            throws InvalidProtocolBufferException {
        var status = StatusProto.fromThrowable(error);
        check(status != null, error);
        for (Any detail : status.getDetailsList()) {
            if (detail.is(type)) {
                return detail.unpack(type);
            }
        }
        throw new AssertionError("no " + type.getSimpleName() + " in " + status);
    }

    static void same(Object found, Object expected) {
        check(expected.equals(found), "expected " + expected + ", found " + found);
    }

    static void check(boolean condition, Object otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }
}
