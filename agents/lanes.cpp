// Which lane does what in the next pass.
#include "agents/lanes.h"

#include <algorithm>

#include "agents/stream.h"

namespace polykv {
namespace {

// How much of the prompt the lane spares, if it is its conversation that goes on. All prompts begin
// alike: for a few tokens in common nobody's last answer is given up while another lane is unused.
uint32_t spared_by(const Lane& lane, std::span<const uint32_t> prompt) {
  const uint32_t spared = reusable(lane.suffix, prompt, true);
  return 2 * spared >= lane.suffix.n_tokens() ? spared : 0;
}

}  // namespace

Holding::Holding(const AgentModel& model, ThreadTeam& team, FdSocket connection,
                 std::string of_pool, Layout opened)
    : lease(std::move(connection)),
      pool(std::move(of_pool)),
      layout(std::move(opened)),
      attention(model.image.config(), layout, model.attend, team) {}

Lanes::Lanes(AgentModel& model, uint32_t n_lanes)
    : model_(model),
      pass_(model),
      logits_(aligned_array<float>(size_t{n_lanes} * model.image.config().n_vocab)) {
  check(n_lanes >= 1 && n_lanes <= Decoder::kRowsMax, "every lane has a row in a pass");
  lanes_.reserve(n_lanes);
  for (uint32_t i = 0; i < n_lanes; ++i) lanes_.emplace_back(model.image.config());
  deciding_.reserve(n_lanes);
  texts_.resize(n_lanes);
}

bool Lanes::busy() const {
  return std::ranges::any_of(lanes_, [](const Lane& lane) { return lane.answer.has_value(); });
}

Lane* Lanes::idle_for(const std::shared_ptr<Holding>& on, std::span<const uint32_t> prompt) {
  Lane* best = nullptr;
  uint32_t most = 0;
  for (Lane& lane : lanes_) {
    if (lane.answer) continue;
    const uint32_t spared = lane.on == on ? spared_by(lane, prompt) : 0;
    const bool better =
        best == nullptr || spared > most || (spared == most && lane.last_used < best->last_used);
    if (!better) continue;
    best = &lane;
    most = spared;
  }
  return best;
}

Status Lanes::start(std::shared_ptr<Holding> on, const std::string& request,
                    GenerateOptions options) {
  auto prompt = prompt_of(model_, options);
  if (!prompt) return pass(prompt);
  Lane* lane = idle_for(on, *prompt);
  if (lane == nullptr) {
    return fail(ErrorCode::conflict,
                cat("all ", lanes_.size(), " lanes of this agent are at work: wait for one"));
  }
  lane->turn.reset();
  if (lane->on != on) lane->suffix = Suffix(model_.image.config(), on->layout);
  lane->on = std::move(on);
  lane->last_used = ++uses_;
  auto answer = Answer::begin(model_, lane->on->layout, lane->suffix, std::move(options), *prompt);
  if (!answer) return pass(answer);
  lane->request = request;
  lane->answer.emplace(std::move(*answer));
  return {};
}

// Those past their prompt come first: nobody's answer waits for another's prompt.
uint32_t Lanes::rows_for_prompts() const {
  uint32_t rows = Decoder::kRowsMax;
  for (const Lane& lane : lanes_) {
    if (lane.answer && !lane.answer->in_prompt()) --rows;
  }
  return rows;
}

void Lanes::add_rows(Lane& lane, uint32_t* prompt_rows) {
  const bool in_prompt = lane.answer->in_prompt();
  const uint32_t most = in_prompt ? *prompt_rows : 1;
  if (most == 0) return;
  const auto tokens = lane.answer->next(most);
  const bool decides = lane.answer->decides(tokens.size());
  pass_.add(lane.on->attention, lane.suffix, tokens, decides ? 1 : 0);
  if (in_prompt) *prompt_rows -= static_cast<uint32_t>(tokens.size());
  if (decides) deciding_.push_back(&lane);
}

// Lanes of one version go together, so that they share the pass over its bytes.
void Lanes::step(const OnText& on_text, const OnEnd& on_end) {
  uint32_t prompt_rows = rows_for_prompts();
  deciding_.clear();
  for (size_t first = 0; first < lanes_.size(); ++first) {
    const auto same = [&](const Lane& lane) { return lane.answer && lane.on == lanes_[first].on; };
    const auto before = std::span(lanes_).first(first);
    if (!lanes_[first].answer || std::ranges::any_of(before, same)) continue;
    for (Lane& lane : std::span(lanes_).subspan(first)) {
      if (same(lane)) add_rows(lane, &prompt_rows);
    }
  }
  pass_.run(logits_.get());
  take_all();
  for (size_t i = 0; i < deciding_.size(); ++i) {
    Lane& lane = *deciding_[i];
    if (!texts_[i].empty() || !lane.answer->logprobs().empty()) on_text(lane, texts_[i]);
    if (lane.answer->ended()) end(lane, on_end);
  }
}

// Lanes choose by themselves, and so at the same time.
void Lanes::take_all() {
  const uint32_t n_vocab = model_.image.config().n_vocab;
  const auto take = [&](uint32_t i) {
    texts_[i] = deciding_[i]->answer->take({&logits_[size_t{i} * n_vocab], n_vocab});
  };
  model_.team.run(static_cast<uint32_t>(deciding_.size()), 1,
                  [&take](uint32_t begin, uint32_t end) {
                    for (uint32_t i = begin; i < end; ++i) take(i);
                  });
}

void Lanes::end(Lane& lane, const OnEnd& on_end) {
  const GenerateResult& result = lane.answer->result();
  if (lane.suffix.n_tokens() >= result.prompt_tokens) {  // not cancelled on the way there
    lane.turn = Turn{lane.request, result.prompt_tokens, result.tokens, result.text};
  }
  on_end(lane);
  lane.answer.reset();
}

void Lanes::cancel(const std::string& request, const OnEnd& on_end) {
  for (Lane& lane : lanes_) {
    if (!lane.answer || lane.request != request) continue;
    lane.answer->cancel();
    end(lane, on_end);
  }
}

Lane* Lanes::with_turn(const std::string& request) {
  const auto found = std::ranges::find_if(lanes_, [&](const Lane& lane) {
    return !lane.answer && lane.turn && lane.turn->request == request;
  });
  return found == lanes_.end() ? nullptr : &*found;
}

std::shared_ptr<Holding> Lanes::find(const std::string& pool, uint64_t version) const {
  for (const Lane& lane : lanes_) {
    if (lane.answer && lane.on->pool == pool && lane.on->layout.version == version) return lane.on;
  }
  return nullptr;
}

void Lanes::keep_only(const std::shared_ptr<Holding>& on) {
  for (Lane& lane : lanes_) {
    if (lane.answer || lane.on == on) continue;
    lane.suffix.clear();
    lane.turn.reset();
    lane.on.reset();
  }
}

}  // namespace polykv
