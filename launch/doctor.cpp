// Findings, told to people and machines.
#include "launch/doctor.h"

#include <iomanip>
#include <iostream>

namespace polykv {
namespace {

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::warning:
      return "warning";
    case Verdict::problem:
      break;
  }
  return "problem";
}

void add(Findings& all, Findings more) {
  for (Finding& finding : more) all.push_back(std::move(finding));
}

Findings examine(const DoctorCommand& command) {
  Findings findings = look_at_machine();
  findings.push_back(look_at_sealing());
  add(findings, look_at_agent(command.agent_program));
  findings.push_back(look_at_writer(command.writer));
  findings.push_back(look_at_runtime(command.runtime));
  if (!command.model.empty()) findings.push_back(look_at_model(command.model));
  return findings;
}

}  // namespace

void print_findings(const Findings& findings, std::ostream& out) {
  for (const Finding& finding : findings) {
    out << std::left << std::setw(9) << name_of(finding.verdict) << std::setw(18) << finding.name
        << finding.found << '\n';
    if (!finding.advice.empty()) out << std::string(27, ' ') << "→ " << finding.advice << '\n';
  }
}

Message findings_message(const Findings& findings) {
  std::vector<Message> checks;
  for (const Finding& finding : findings) {
    Message check("doctor_check");
    check.set("name", finding.name).set("verdict", name_of(finding.verdict));
    check.set("found", finding.found).set("advice", finding.advice);
    if (finding.verdict == Verdict::problem) check.set("code", error_name(finding.code));
    checks.push_back(std::move(check));
  }
  const bool usable = verdict_of(findings).has_value();
  return Message("doctor").set("usable", usable).set("checks", checks);
}

Status verdict_of(const Findings& findings) {
  for (const Finding& finding : findings) {
    if (finding.verdict != Verdict::problem) continue;
    return fail(finding.code, cat("not usable as it is: ", finding.name, ": ", finding.found),
                finding.name);
  }
  return {};
}

Status doctor(const DoctorCommand& command, int /*interrupt_fd*/) {
  const Findings findings = examine(command);
  if (command.json) {
    std::cout << findings_message(findings).dump() << '\n';
  } else {
    print_findings(findings, std::cout);
  }
  return verdict_of(findings);
}

}  // namespace polykv
