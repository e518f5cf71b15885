// Answers of small models made on the spot: how they begin, how they end, how likely their tokens
// are.
#include "agents/answer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "agents/lanes.h"
#include "agents/request.h"
#include "tests/agents/alone.h"
#include "tests/model/raw_image.h"
#include "tests/model/vocab_fixture.h"

namespace polykv {
namespace {

// One layer, random weights, and the vocabulary of a fixture.
std::string model_with(const char* vocabulary) {
  std::ifstream fixture(cat(POLYKV_SOURCE_DIR "/tests/fixtures/vocab_", vocabulary, ".json"));
  const auto vocab = nlohmann::json::parse(fixture);
  test::GgufWriter file = test::tiny_model();
  for (const char* key : {"bos_token_id", "eos_token_id", "merges", "pre"}) {
    file.remove(cat("tokenizer.ggml.", key));
  }
  file.remove("tokenizer.chat_template");
  test::put_vocab(file, vocab);
  std::erase_if(file.tensors, [](const auto& t) { return t.name == "token_embd.weight"; });
  test::add_tensor(file, "token_embd.weight", GgufType::q8_0, {64, vocab["tokens"].size()});
  return file.bytes();
}

std::unique_ptr<AgentModel> load(const char* vocabulary) {
  const test::TempFile file(model_with(vocabulary));
  auto image = pack_image(file.path(), memory_room(), {}, nullptr, "plain");
  check(image.has_value(), image ? "" : image.error().message.c_str());
  auto model = load_agent_model(std::move(*image), 1, "");
  check(model.has_value(), model ? "" : model.error().message.c_str());
  return std::move(*model);
}

GenerateOptions asking(uint64_t seed, std::optional<uint32_t> top = {}) {
  GenerateOptions options;
  options.messages = {{"user", "the license of the program"}};
  options.max_tokens = 12;
  options.sampling.temperature = 2;
  options.sampling.seed = seed;
  options.top_logprobs = top;
  return options;
}

GenerateResult answer(AgentModel& model, const GenerateOptions& options) {
  Suffix suffix(model.image.config());
  return *test::generate(model, Layout(), suffix, options);
}

TEST(Answers, OfASentencePieceModelDoNotBeginWithTheTokenizersSpace) {
  const auto model = load("sentencepiece");
  const Tokenizer& tokenizer = model->text->tokenizer;
  size_t spared = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const GenerateResult result = answer(*model, asking(seed));
    TextStream whole({});
    std::string bytes;
    for (const uint32_t token : result.tokens) bytes += tokenizer.bytes_of(token);
    const bool space = bytes.starts_with(' ');
    spared += space ? 1 : 0;
    std::string wanted = whole.push(space ? bytes.substr(1) : bytes);
    EXPECT_EQ(result.text, wanted + whole.finish()) << "seed " << seed;
  }
  EXPECT_GT(spared, 5U) << "some answers must begin with a word, or this shows nothing";
}

TEST(Answers, OfAByteLevelModelKeepTheirSpaces) {
  const auto model = load("gpt2");
  size_t spaces = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    spaces += answer(*model, asking(seed)).text.starts_with(' ') ? 1 : 0;
  }
  EXPECT_GT(spaces, 0U);
}

// Asking the kernel takes a while: once at the first token, once at the end, for both figures.
TEST(Answers, TellThePrivateMemoryAtTheirEndAndTheMostThatTheySaw) {
  const auto model = load("gpt2");
  const GenerateResult result = answer(*model, asking(3));
  ASSERT_TRUE(result.private_bytes);
  EXPECT_GT(*result.private_bytes, 0U);
  EXPECT_GE(result.peak_private_bytes, *result.private_bytes);
  const Message done = done_message("1", result);
  EXPECT_EQ(done.integer("private_bytes"), static_cast<int64_t>(*result.private_bytes));
  EXPECT_EQ(done.integer("peak_private_bytes"), static_cast<int64_t>(result.peak_private_bytes));
}

TEST(Answers, EndAtEachOfTheFilesEndTokens) {
  const auto model = load("gpt2");
  const GenerateResult before = answer(*model, asking(3));
  ASSERT_EQ(before.reason, "length");
  test::RawImage raw;
  const uint32_t end = before.tokens[4];
  const bool early = std::ranges::find(before.tokens, end) != before.tokens.begin() + 4;
  ASSERT_FALSE(early) << "choose another seed";
  std::vector<std::byte> bytes(model->image.memory().data().begin(),
                               model->image.memory().data().end());
  raw.bytes = std::move(bytes);
  ImageHeader header = raw.header();
  header.n_ends = 1;
  header.ends[0] = end;
  raw.put(0, header);
  raw.reseal();
  auto fd = share_bytes("polykv-test", raw.bytes, memory_room());
  ASSERT_TRUE(fd);
  auto other = load_agent_model(std::move(*fd), 1, "");
  ASSERT_TRUE(other) << other.error().message;
  const GenerateResult after = answer(**other, asking(3));
  EXPECT_EQ(after.reason, "eos");
  EXPECT_EQ(after.tokens.size(), 4U);
}

// Each token's logprobs, as the answer tells them; the logits that they are of, too.
struct Told {
  std::vector<std::vector<TokenLogprob>> logprobs;
  std::vector<std::vector<float>> logits;
  GenerateResult result;
};

Told told(AgentModel& model, const GenerateOptions& options) {
  Told out;
  const Layout layout;
  Suffix suffix(model.image.config());
  auto growing = Answer::begin(model, layout, suffix, options, *prompt_of(model, options));
  PoolAttention attention(model.image.config(), layout, model.attend, model.team);
  Pass pass(model);
  std::vector<float> logits(model.image.config().n_vocab);
  while (!growing->ended()) {
    const auto tokens = growing->next(pass.free());
    const bool decides = growing->decides(tokens.size());
    pass.add(attention, suffix, tokens, decides ? 1 : 0);
    pass.run(logits.data());
    if (!decides) continue;
    out.logits.push_back(logits);
    (void)growing->take(logits);
    const auto said = growing->logprobs();
    if (!said.empty()) out.logprobs.emplace_back(said.begin(), said.end());
  }
  out.result = growing->result();
  return out;
}

double log_share(const std::vector<float>& logits, uint32_t token) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  return double{logits[token]} - std::log(sum);
}

TEST(AnswerLogprobs, AreOfTheModelsOwnLogitsWhateverTheSamplerDoes) {
  const auto model = load("gpt2");
  GenerateOptions options = asking(5, 3);
  options.sampling.top_k = 7;
  options.sampling.repetition_penalty = 1.5F;
  options.min_tokens = options.max_tokens;
  const Told answer = told(*model, options);
  ASSERT_EQ(answer.logprobs.size(), answer.result.tokens.size());
  for (size_t i = 0; i < answer.logprobs.size(); ++i) {
    const auto& said = answer.logprobs[i];
    ASSERT_EQ(said.size(), 4U);
    EXPECT_EQ(said[0].token, answer.result.tokens[i]);
    for (const TokenLogprob& one : said) {
      EXPECT_NEAR(one.logprob, log_share(answer.logits[i], one.token), 1e-4) << i;
    }
  }
}

TEST(AnswerLogprobs, OfAGreedyAnswerTheTokenIsTheLikeliest) {
  const auto model = load("gpt2");
  GenerateOptions options = asking(0, 1);
  options.sampling = {};
  const Told answer = told(*model, options);
  ASSERT_FALSE(answer.logprobs.empty());
  for (const auto& said : answer.logprobs) {
    EXPECT_EQ(said[0].token, said[1].token);
    EXPECT_EQ(said[0].logprob, said[1].logprob);
  }
}

TEST(AnswerLogprobs, ChangeNoTokenAndAreNotThereUnasked) {
  const auto model = load("gpt2");
  const Told without = told(*model, asking(9)), with = told(*model, asking(9, 0));
  EXPECT_TRUE(without.logprobs.empty());
  EXPECT_EQ(without.result.tokens, with.result.tokens);
  EXPECT_EQ(with.logprobs.size(), with.result.tokens.size());
}

TEST(AnswerLogprobs, AreTheSameAloneAndInLanes) {
  const auto model = load("gpt2");
  const auto on = std::make_shared<Holding>(*model, model->team, FdSocket(), "main", Layout());
  Lanes lanes(*model, 5);
  std::map<std::string, std::vector<std::pair<uint32_t, float>>> found;
  for (uint32_t i = 0; i < 5; ++i) ASSERT_TRUE(lanes.start(on, cat(i), asking(i, i)));
  while (lanes.busy()) {
    lanes.step(
        [&](const Lane& lane, const std::string&) {
          for (const auto& one : lane.answer->logprobs()) {
            found[lane.request].emplace_back(one.token, one.logprob);
          }
        },
        [](const Lane&) {});
  }
  for (uint32_t i = 0; i < 5; ++i) {
    std::vector<std::pair<uint32_t, float>> alone;
    for (const auto& said : told(*model, asking(i, i)).logprobs) {
      for (const auto& one : said) alone.emplace_back(one.token, one.logprob);
    }
    EXPECT_EQ(found[cat(i)], alone) << i;
  }
}

TEST(Requests, WhatIsNotSaidIsAsTheModelSays) {
  const SamplingOptions model{0.7F, 20, 0.8F, 0.1F, 1.1F, 0};
  Message start("start");
  start.set("max_tokens", 4);
  EXPECT_EQ(sampling_text(generate_options(start, model).sampling), sampling_text(model));
  EXPECT_FALSE(generate_options(start, model).top_logprobs);
  start.set("temperature", 0.0).set("repetition_penalty", 1.0).set_id("seed", 9);
  EXPECT_EQ(sampling_text(generate_options(start, model).sampling), "greedy");
  EXPECT_EQ(generate_options(start, model).sampling.seed, 9U);
  start.set("temperature", 0.5).set("top_k", 0).set("top_p", 1.0).set("min_p", 0.0);
  EXPECT_EQ(sampling_text(generate_options(start, model).sampling), "temperature 0.5");
  EXPECT_EQ(generate_options(start.set("logprobs", true), model).top_logprobs, 0U);
  EXPECT_EQ(generate_options(start.set("top_logprobs", 4), model).top_logprobs, 4U);
}

TEST(Requests, ATokenThatIsNoWholeCharacterComesWithItsBytes) {
  const auto model = load("sentencepiece");
  const TokenizerTables& tables = model->image.tokenizer();
  const uint32_t part = 3 + 0xc3, whole = 3 + 'a';
  const std::vector<TokenLogprob> said{{part, -1}, {whole, -0.5F}};
  const Message message = logprob_message(tables, said);
  EXPECT_EQ(message.integers("bytes"), (std::vector<int64_t>{0xc3}));
  EXPECT_EQ(message.number("logprob"), -1);
  Message token("token");
  token.set("agent", "a").set("text", "").set("logprobs", std::vector{message});
  const auto parsed = Message::parse(token.dump());
  ASSERT_TRUE(parsed) << parsed.error().message;
  const Message back = parsed->objects("logprobs").at(0);
  EXPECT_EQ(back.text("text"), "\xef\xbf\xbd");
  const Message top = back.objects("top").at(0);
  EXPECT_EQ(top.text("text"), "a");
  EXPECT_FALSE(top.has("bytes"));
}

}  // namespace
}  // namespace polykv
