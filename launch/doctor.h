// `polykv doctor`: what this machine can do, and what is wrong with it and what to do about that.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "ipc/limits.h"
#include "ipc/message.h"

namespace polykv {

struct DoctorCommand {
  std::string runtime;
  std::string model;                  // file, "" = none to look at
  std::string writer, agent_program;  // absolute paths
  bool json = false;
};
// Prints one line a finding. Ok unless there is a problem: then the first one, with its code.
Status doctor(const DoctorCommand& command, int interrupt_fd);

enum class Verdict { ok, warning, problem };

struct Finding {
  std::string name;
  Verdict verdict = Verdict::ok;
  std::string found;
  std::string advice = {};         // what to do; "" where nothing is to be done
  ErrorCode code = ErrorCode::io;  // of a problem
};
using Findings = std::vector<Finding>;

void print_findings(const Findings& findings, std::ostream& out);
Message findings_message(const Findings& findings);  // "doctor"
Status verdict_of(const Findings& findings);

// doctor_machine.cpp: the kernel and its limits. What can be judged apart from reading it, is.
Finding judge_descriptors(uint64_t limit);  // the most that this process may have
Finding judge_memory(const MemoryRoom& room);
Finding judge_kernel(const std::string& release);
Finding judge_clock(const std::string& source);
Finding look_at_sealing();
Findings look_at_machine();

// doctor_programs.cpp: what polykv consists of here.
Finding look_at_runtime(const std::string& path);
Finding look_at_model(const std::string& file);
Finding look_at_writer(const std::string& program);
Findings look_at_agent(const std::string& program);

}  // namespace polykv
