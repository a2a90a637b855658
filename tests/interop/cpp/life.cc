// A C++ client against the real service: the life of a peer, a broken connection, errors. Run by `make interop`, which
// has ../python/stage.py play the world around it; that file has the orders, too. Stubs are generated from proto/.

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
// The stubs of the services, not only their declarations: see tools/build-cpp-client.sh.
#include "opflex/peerstatus/v1/peer_status_service.grpc.pb.cc"
#include "opflex/peerstatus/v1/pool_service.grpc.pb.cc"

namespace v1 = opflex::peerstatus::v1;
using google::protobuf::util::MessageDifferencer;

namespace {

// Far beyond what anything here takes: it ends a hang, it measures nothing.
constexpr std::chrono::seconds kPatience{20};
const std::string kUserData("\x00 opaque \xff bytes", 15);

#define CHECK(condition, what)                                                                              \
  do {                                                                                                      \
    if (!(condition)) {                                                                                     \
      std::cerr << __FILE__ << ":" << __LINE__ << ": " << #condition << "; got: " << (what) << std::endl;   \
      std::exit(1);                                                                                         \
    }                                                                                                       \
  } while (false)

void order(const std::string& what) {
  std::cout << what << std::endl;
  std::string answer;
  std::getline(std::cin, answer);
  CHECK(answer == "ok", answer);
}

// A context for one call that waits for the connection and ends by itself.
std::unique_ptr<grpc::ClientContext> context(std::chrono::seconds deadline = kPatience) {
  auto made = std::make_unique<grpc::ClientContext>();
  made->set_wait_for_ready(true);
  made->set_deadline(std::chrono::system_clock::now() + deadline);
  return made;
}

std::string text(const grpc::Status& status) { return std::to_string(status.error_code()) + " " + status.error_message(); }

// One detail message of an error, decoded from grpc-status-details-bin.
template <typename Detail>
Detail detail(const grpc::Status& status) {
  google::rpc::Status decoded;
  CHECK(decoded.ParseFromString(status.error_details()), text(status));
  Detail found;
  for (const auto& packed : decoded.details()) {
    if (packed.UnpackTo(&found)) return found;
  }
  CHECK(!"the detail is there", decoded.DebugString());
  return found;
}

void check_error(const grpc::Status& status, grpc::StatusCode code, const std::string& reason) {
  CHECK(status.error_code() == code, text(status));
  const auto info = detail<google::rpc::ErrorInfo>(status);
  CHECK(info.domain() == "opflex.peerstatus" && info.reason() == reason, info.DebugString());
}

// A stream that checks on every message what the contract promises about all of them.
class Watch {
 public:
  Watch(v1::PeerStatusService::Stub& stub, const v1::WatchPeerStatusRequest& request)
      : context_(context(3 * kPatience)), reader_(stub.WatchPeerStatus(context_.get(), request)) {
    v1::WatchPeerStatusResponse first;
    CHECK(reader_->Read(&first) && first.has_attached(), first.DebugString() + text_of_end());
    attached = first.attached();
    user_data = first.user_data();
    revision = attached.cursor().revision();
  }

  // The next message, after its place in the order was checked; false after the last.
  bool next(v1::WatchPeerStatusResponse* message) {
    if (!reader_->Read(message)) return false;
    if (message->has_change()) {
      CHECK(message->previous_revision() == revision, message->DebugString());
      CHECK(message->revision() > revision, message->DebugString());
      CHECK(message->user_data() == user_data, message->DebugString());
      changes.push_back(message->change());
    }
    if (message->has_change() || message->has_snapshot()) revision = message->revision();
    return true;
  }

  void until_synced() {
    v1::WatchPeerStatusResponse message;
    do {
      CHECK(next(&message), text_of_end());
    } while (!message.has_synced());
  }

  v1::Change until_status(v1::PeerStatus wanted) {
    v1::WatchPeerStatusResponse message;
    do {
      CHECK(next(&message), text_of_end());
    } while (!message.change().has_peer() || message.change().peer().peer().status() != wanted);
    return message.change();
  }

  // Reads to the end of the stream, and says why it ended.
  grpc::Status until_end() {
    v1::WatchPeerStatusResponse message;
    while (next(&message)) {
    }
    return reader_->Finish();
  }

  v1::Attached attached;
  std::string user_data;
  std::uint64_t revision = 0;
  std::vector<v1::Change> changes;

 private:
  std::string text_of_end() {
    context_->TryCancel();
    return " the stream ended: " + text(reader_->Finish());
  }

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchPeerStatusResponse>> reader_;
};

// The statuses that a peer went through; changes of the reason alone left out.
std::string statuses(const std::vector<v1::Change>& changes) {
  std::string all, last;
  for (const auto& change : changes) {
    const auto status = v1::PeerStatus_Name(change.peer().peer().status()).substr(sizeof("PEER_STATUS_") - 1);
    if (change.has_peer() && status != last) all += (all.empty() ? "" : " ") + (last = status);
  }
  return all;
}

v1::WatchPeerStatusRequest from(const std::string& listener, const v1::Cursor& cursor) {
  v1::WatchPeerStatusRequest request;
  request.set_listener(listener);
  request.set_takeover(!listener.empty());
  *request.mutable_resume_after() = cursor;
  return request;
}

// Added, up, down, up, as one stream tells it.
void life_of_a_peer(Watch& watch, v1::PoolService::Stub& pools) {
  v1::AddPeerRequest request;
  request.set_parent("pools/default");
  request.set_host("127.0.0.1");
  request.set_port(std::stoi(std::getenv("PEER_PORT")));
  v1::AddPeerResponse added;
  const auto status = pools.AddPeer(context().get(), request, &added);
  CHECK(status.ok(), text(status));
  order("peer up");
  const auto ready = watch.until_status(v1::PEER_STATUS_READY);
  const auto& first = watch.changes.front().peer();
  CHECK(first.kind() == v1::CHANGE_KIND_ADDED && first.peer().reason() == v1::REASON_ADDED, first.DebugString());
  CHECK(statuses(watch.changes) == "CONNECTING CONNECTED READY", statuses(watch.changes));
  CHECK(ready.peer().peer().reason() == v1::REASON_HANDSHAKE_COMPLETE, ready.DebugString());
  CHECK(ready.health().health() == v1::POOL_HEALTH_HEALTHY && ready.health().cause() == added.peer().name(), ready.DebugString());
  order("peer down");
  const auto lost = watch.until_status(v1::PEER_STATUS_CONNECTING);
  CHECK(lost.peer().peer().reason() == v1::REASON_REMOTE_CLOSED, lost.DebugString());
  CHECK(lost.health().health() == v1::POOL_HEALTH_DOWN, lost.DebugString());
  order("peer up");
  watch.until_status(v1::PEER_STATUS_READY);
}

// The connection breaks, and things happen meanwhile. Returns the stream that goes on.
Watch broken_connection(Watch& watch, const std::string& listener, v1::PeerStatusService::Stub& listeners) {
  v1::Cursor last_seen = watch.attached.cursor();
  last_seen.set_revision(watch.revision);
  order("cut");
  const auto broken = watch.until_end();
  CHECK(broken.error_code() == grpc::UNAVAILABLE, text(broken));
  order("peer down");
  order("peer up");
  order("mend");
  Watch again(listeners, from(listener, last_seen));
  CHECK(again.attached.resumed(), again.attached.DebugString());
  CHECK(MessageDifferencer::Equals(again.attached.cursor(), last_seen), again.attached.DebugString());
  CHECK(again.user_data == kUserData, again.user_data);
  again.until_synced();
  CHECK(statuses(again.changes) == "CONNECTING CONNECTED READY", statuses(again.changes));
  return again;
}

// The log says the same as the two streams did: nothing is missing, nothing came twice.
void check_history(const v1::Cursor& since, const Watch& watch, const Watch& again, v1::PeerStatusService::Stub& listeners) {
  auto request = from("", since);
  request.set_stop_after_sync(true);
  Watch history(listeners, request);
  const auto end = history.until_end();
  CHECK(end.ok(), text(end));
  auto told = watch.changes;
  told.insert(told.end(), again.changes.begin(), again.changes.end());
  CHECK(told.size() == history.changes.size(), history.changes.size());
  for (std::size_t i = 0; i < told.size(); ++i) {
    CHECK(MessageDifferencer::Equals(told[i], history.changes[i]), history.changes[i].DebugString());
  }
}

grpc::Status destroy(const std::string& listener, v1::PeerStatusService::Stub& listeners) {
  v1::DestroyListenerRequest request;
  request.set_name(listener);
  v1::DestroyListenerResponse response;
  return listeners.DestroyListener(context().get(), request, &response);
}

// The field that a refusal names.
void bad_name(v1::PeerStatusService::Stub& listeners) {
  v1::CreateListenerRequest request;
  request.set_listener_id("Bad Name!");
  v1::CreateListenerResponse response;
  const auto refused = listeners.CreateListener(context().get(), request, &response);
  check_error(refused, grpc::INVALID_ARGUMENT, "BAD_NAME");
  const auto violations = detail<google::rpc::BadRequest>(refused).field_violations();
  CHECK(violations.size() == 1 && violations[0].field() == "listener_id", violations.size());
  CHECK(!violations[0].description().empty(), violations[0].DebugString());
}

}  // namespace

int main() {
  grpc::ChannelArguments redial;
  for (const auto* which : {"initial", "min", "max"}) redial.SetInt(std::string("grpc.") + which + "_reconnect_backoff_ms", 100);
  const auto channel = grpc::CreateCustomChannel(std::getenv("PEERSTATUS"), grpc::InsecureChannelCredentials(), redial);
  const auto listeners = v1::PeerStatusService::NewStub(channel);
  const auto pools = v1::PoolService::NewStub(channel);

  v1::CreateListenerRequest request;
  request.set_user_data(kUserData);
  v1::CreateListenerResponse created;
  const auto status = listeners->CreateListener(context().get(), request, &created);
  CHECK(status.ok(), text(status));
  const auto& listener = created.listener().name();
  Watch watch(*listeners, from(listener, created.cursor()));
  CHECK(watch.attached.resumed() && watch.user_data == kUserData, watch.attached.DebugString());
  watch.until_synced();

  life_of_a_peer(watch, *pools);
  auto again = broken_connection(watch, listener, *listeners);
  check_history(created.cursor(), watch, again, *listeners);

  const auto destroyed = destroy(listener, *listeners);
  CHECK(destroyed.ok(), text(destroyed));
  check_error(again.until_end(), grpc::CANCELLED, "LISTENER_DESTROYED");
  check_error(destroy(listener, *listeners), grpc::NOT_FOUND, "LISTENER_NOT_FOUND");
  bad_name(*listeners);
}
