// An agent's requests as messages say them (docs/protocol.md).
#pragma once

#include <string>

#include "agents/answer.h"
#include "agents/turn.h"
#include "ipc/message.h"

namespace polykv {

GenerateOptions generate_options(const Message& request);  // of a start
Message done_message(const std::string& request, const GenerateResult& result);
Result<TurnOptions> turn_options(const Message& request);  // of an encode; bad_codec

}  // namespace polykv
