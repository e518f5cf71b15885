// An agent's requests as messages say them (docs/protocol.md).
#pragma once

#include <string>

#include "agents/answer.h"
#include "agents/turn.h"
#include "ipc/message.h"

namespace polykv {

// Of a start; what it does not say is as in `defaults`.
GenerateOptions generate_options(const Message& request, const SamplingOptions& defaults);
// A token's logprob with the likeliest ones in its place, as a `token` lists it. REQUIRES: not
// empty.
Message logprob_message(const TokenizerTables& tables, std::span<const TokenLogprob> logprobs);
Message done_message(const std::string& request, const GenerateResult& result);
Result<TurnOptions> turn_options(const Message& request);  // of an encode; bad_codec

}  // namespace polykv
