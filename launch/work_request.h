// From a generate or group_generate to the work that it asks for, or the reason why not.
#pragma once

#include "launch/agent_table.h"
#include "launch/model_slot.h"

namespace polykv {

// usage, bad_text, version_gone or agent_lost: everything that can be refused before any waiting.
Result<WorkRef> work_of(Models& models, AgentTable& agents, const Asker& asker,
                        const Message& message);

// Lanes enough for it, now and as long as nobody else ends? agent_lost with the numbers.
Status check_enough(const AgentTable& agents, const Work& work);

// Gives a work that waits for a version that one, if it is there. version_gone: it never will be.
Status find_version(Models& models, Work& work);

}  // namespace polykv
