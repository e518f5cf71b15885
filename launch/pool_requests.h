// Requests about pools that need no writer, only the registry: fork, drop, pin, unpin. And how a
// pool looks in messages.
#pragma once

#include <map>
#include <set>
#include <string>

#include "ipc/message.h"
#include "launch/registry.h"

namespace polykv {

// usage: the name of a "pool" or "model" is empty, too long, or of other characters than allowed.
Status check_name(const char* what, const std::string& name);
// May a pool of this name be made? usage if not.
Status check_new_pool(const Registry& registry, const std::string& name);
// usage if a pool is among those that are being written.
Status check_not_busy(const std::set<std::string>& busy, const std::string& pool);

// Whoever prefilled something sets prefill_tokens and prefill_seconds.
Message pool_ready(const std::string& pool, const Version& version);
// leases: how many agents hold each version.
Message pool_status(const std::string& model, const Pool& pool,
                    const std::map<const Version*, uint64_t>& leases);

// busy: pools that are being written; room: for the manifest.
Result<Message> fork_pool(Registry& registry, const std::set<std::string>& busy,
                          const MemoryRoom& room, const Message& request);
Status drop_pool(Registry& registry, const std::set<std::string>& busy, const std::string& pool);
Result<Message> pin_pool(Registry& registry, const Message& request);  // or unpin

}  // namespace polykv
