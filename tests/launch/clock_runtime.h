// A running supervisor whose clock is set by hand: time passes when a test says so.
#pragma once

#include <atomic>
#include <memory>

#include "tests/launch/fake_runtime.h"

namespace polykv::testing {

class ClockRuntime : public FakeRuntime {
 protected:
  SupervisorOptions clock_options() const {
    SupervisorOptions options = fake_options();
    options.clock = [seconds = seconds_] {
      return SteadyTime(std::chrono::hours(1) + std::chrono::seconds(*seconds));
    };
    return options;
  }

  // What is due has happened when the next request is answered.
  void pass_seconds(int64_t seconds) { *seconds_ += seconds; }

  Result<Message> create(const std::string& pool, const std::string& text = "a document",
                         int64_t ttl_seconds = 0) {
    Message request("pool_create");
    if (ttl_seconds > 0) request.set("ttl_seconds", ttl_seconds);
    return client().ask(request.set("pool", pool).set("codec", "k4v4").set("text", text));
  }
  Result<Message> pool_request(const std::string& type, const std::string& pool,
                               int64_t ttl_seconds = 0) {
    Message request(type);
    if (ttl_seconds > 0) request.set("ttl_seconds", ttl_seconds);
    return client().ask(request.set("pool", pool));
  }
  Result<Message> fork(const std::string& pool, const std::string& to, int64_t ttl_seconds = 0) {
    Message request("pool_fork");
    if (ttl_seconds > 0) request.set("ttl_seconds", ttl_seconds);
    return client().ask(request.set("pool", pool).set("to", to));
  }

  // Names of all pools, joined by spaces.
  std::string pools() {
    std::string names;
    for (const Message& pool : status().objects("pools")) {
      names += (names.empty() ? "" : " ") + pool.text("pool");
    }
    return names;
  }
  Message pool(const std::string& name) {
    for (const Message& pool : status().objects("pools")) {
      if (pool.text("pool") == name) return pool;
    }
    ADD_FAILURE() << "no pool " << name;
    return Message("none");
  }
  int64_t held() { return status().integer("held_bytes"); }

  // Whoever is told of what happens to pools. A subscription takes its time to arrive: forks are
  // made and dropped until one is heard of.
  ControlClient listen() {
    auto listener =
        ControlClient::connect(runtime() + "/ctl", "listener", runtime() + "/bus", {"pool"});
    EXPECT_TRUE(create("to-listen", "x"));
    int forks = 0;
    while (!HasFailure()) {
      EXPECT_TRUE(fork("to-listen", cat("heard-", ++forks)));
      auto heard = listener->receive(20);
      if (heard && *heard) break;
    }
    for (int i = 1; i <= forks; ++i) EXPECT_TRUE(pool_request("pool_drop", cat("heard-", i)));
    EXPECT_TRUE(pool_request("pool_drop", "to-listen"));
    while (!HasFailure() && event(*listener).text("pool") != "to-listen") {
    }
    return std::move(*listener);
  }
  Message event(ControlClient& listener) {
    auto heard = listener.receive(-1, guard());
    EXPECT_TRUE(heard && *heard) << "no event came";
    return heard && *heard ? **heard : Message("none");
  }

 private:
  std::shared_ptr<std::atomic<int64_t>> seconds_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace polykv::testing
