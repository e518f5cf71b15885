// A running supervisor and hand-made links to the socket that carries memory.
#pragma once

#include "tests/launch/fake_runtime.h"

namespace polykv::testing {

class LinkedRuntime : public FakeRuntime {
 protected:
  FdSocket link() {
    auto socket = FdSocket::connect(runtime() + "/fd");
    EXPECT_TRUE(socket) << socket.error().message;
    return socket ? std::move(*socket) : FdSocket();
  }

  static Message heard(FdSocket& socket) {
    const auto packet = socket.receive();
    EXPECT_TRUE(packet) << packet.error().message;
    const auto message = packet ? Message::parse(packet->text) : Message("none");
    EXPECT_TRUE(message) << message.error().message;
    return message ? *message : Message("none");
  }
};

}  // namespace polykv::testing
