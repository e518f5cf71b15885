// What a run cost and what it answered: for people, and as JSON for machines.
#pragma once

#include <iosfwd>
#include <string>

#include "launch/run_job.h"

namespace polykv {

// A line a token: how likely it was, and what else was.
void print_logprobs(const std::vector<Message>& logprobs, std::ostream& out);
void print_report(const RunResult& result, std::ostream& out);
std::string report_json(const RunResult& result);

// Bytes of one f16 KV cache over the pool's tokens.
uint64_t f16_cache_bytes(const Message& pool_ready);

}  // namespace polykv
