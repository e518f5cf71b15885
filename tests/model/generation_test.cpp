// What files say of sampling and of an answer's end, and that the image holds it.
#include "model/generation.h"

#include <gtest/gtest.h>

#include "tests/model/raw_image.h"

namespace polykv {
namespace {

Result<FileGeneration> hub(const std::string& text) {
  auto json = Json::parse(text, "generation_config.json");
  check(json.has_value(), "the test writes JSON");
  return hub_generation(*json, "model file m/generation_config.json");
}

std::string sampled(const std::string& text) { return sampling_text(hub(text)->sampling); }

TEST(GenerationConfig, WithoutDoSampleAnswersAreGreedy) {
  EXPECT_EQ(sampled("{}"), "greedy");
  EXPECT_EQ(sampled(R"({"do_sample": false, "temperature": 0.9, "top_p": 0.6})"), "greedy");
  EXPECT_EQ(sampled(R"({"temperature": 0.9})"), "greedy");
}

TEST(GenerationConfig, WithItTheyAreSampledAsItSays) {
  EXPECT_EQ(sampled(R"({"do_sample": true})"), "temperature 1");
  EXPECT_EQ(sampled(R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9})"),
            "temperature 0.6, top_p 0.9");
  EXPECT_EQ(sampled(R"({"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                        "min_p": 0.05, "repetition_penalty": 1.1, "max_length": 4096})"),
            "temperature 0.7, top_k 20, top_p 0.8, min_p 0.05, repetition_penalty 1.1");
  EXPECT_EQ(sampled(R"({"do_sample": true, "temperature": null, "top_k": 0})"), "temperature 1");
}

TEST(GenerationConfig, ThePenaltyHoldsForGreedyAnswersToo) {
  EXPECT_EQ(sampled(R"({"repetition_penalty": 1.05})"), "greedy, repetition_penalty 1.05");
}

TEST(GenerationConfig, WhatIsNotDoneIsSaid) {
  EXPECT_TRUE(hub(R"({"num_beams": 1, "typical_p": 1.0, "suppress_tokens": []})")->notices.empty());
  const auto notices = hub(R"({"num_beams": 4, "suppress_tokens": [7]})")->notices;
  ASSERT_EQ(notices.size(), 2U);
  EXPECT_NE(notices[0].find("num_beams"), std::string::npos);
  EXPECT_NE(notices[1].find("suppress_tokens"), std::string::npos);
}

TEST(GenerationConfig, BadValuesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"do_sample": true, "temperature": "hot"})", "temperature is not a number"},
      {R"({"do_sample": true, "temperature": -1})", "temperature is -1"},
      {R"({"do_sample": true, "top_p": 1.5})", "top_p is 1.5"},
      {R"({"do_sample": true, "top_k": 2.5})", "top_k is 2.5"},
      {R"({"do_sample": true, "top_k": -1})", "top_k is -1"},
      {R"({"repetition_penalty": 0})", "repetition_penalty is 0"},
  };
  for (const auto& [text, named] : cases) {
    const auto refused = hub(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code, ErrorCode::bad_model_file);
    EXPECT_NE(refused.error().message.find(named), std::string::npos) << refused.error().message;
    EXPECT_NE(refused.error().message.find("m/generation_config.json"), std::string::npos);
  }
}

ModelImage packed(const test::GgufWriter& file) {
  auto image = test::RawImage(test::TempFile(file.bytes()).path()).map();
  check(image.has_value(), image ? "" : image.error().message.c_str());
  return std::move(*image);
}

TEST(GgufGeneration, AFileThatSaysNothingIsGreedyAndHasOneEnd) {
  const ModelImage image = packed(test::tiny_model());
  EXPECT_EQ(sampling_text(image.sampling()), "greedy");
  EXPECT_TRUE(image.tokenizer().ends.empty());
}

TEST(GgufGeneration, TheImageHoldsWhatTheFileSays) {
  auto file = test::tiny_model();
  file.f32("general.sampling.temp", 0.5F);
  file.u32("general.sampling.top_k", 40);
  file.f32("general.sampling.penalty_repeat", 1.25F);
  file.u32("tokenizer.ggml.eot_token_id", 0);
  file.u32("tokenizer.ggml.eom_token_id", 2);  // eos
  const ModelImage image = packed(file);
  EXPECT_EQ(sampling_text(image.sampling()), "temperature 0.5, top_k 40, repetition_penalty 1.25");
  EXPECT_EQ(std::vector<uint32_t>(image.tokenizer().ends.begin(), image.tokenizer().ends.end()),
            (std::vector<uint32_t>{0}));
}

TEST(GgufGeneration, WithoutATemperatureItIsOne) {
  auto file = test::tiny_model();
  file.f32("general.sampling.top_p", 0.5F);
  EXPECT_EQ(sampling_text(packed(file).sampling()), "temperature 1, top_p 0.5");
}

TEST(GgufGeneration, BadValuesAndEndsAreRefused) {
  auto hot = test::tiny_model();
  hot.f32("general.sampling.temp", 1000);
  auto past = test::tiny_model();
  past.u32("tokenizer.ggml.eot_token_id", 16);
  const std::pair<test::GgufWriter*, const char*> cases[] = {{&hot, "temperature is 1000"},
                                                             {&past, "eot_token_id is 16"}};
  for (const auto& [file, named] : cases) {
    const test::TempFile on_disk(file->bytes());
    const auto refused = pack_image(on_disk.path(), memory_room());
    ASSERT_FALSE(refused) << named;
    EXPECT_EQ(refused.error().code, ErrorCode::bad_model_file);
    EXPECT_NE(refused.error().message.find(named), std::string::npos) << refused.error().message;
  }
}

TEST(HubGeneration, TheFurtherEosTokensOfTheListAreEnds) {
  const auto image = test::RawImage(POLYKV_SOURCE_DIR "/tests/fixtures/hub_llama").map();
  ASSERT_TRUE(image);
  EXPECT_EQ(image->tokenizer().eos, 647U);
  ASSERT_EQ(image->tokenizer().ends.size(), 1U);
  EXPECT_EQ(image->tokenizer().ends[0], 641U);
}

}  // namespace
}  // namespace polykv
