// A real model over a small document: what the tests of agents stand on. They skip without a model.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "model/prefill.h"
#include "tests/agents/alone.h"
#include "tests/model/real_model.h"

namespace polykv::test {

// Model and the tokens of one small document, made once for all tests of a file; segments of it.
class SmallPool : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto fd = pack_image(test::model_path(), memory_room());
    if (!fd) return;
    auto model = load_agent_model(std::move(*fd), 2, "");
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
    std::ifstream file("/usr/share/common-licenses/GPL-2");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    auto tokens =
        model_->text->tokenizer.encode(model_->text->chat.document(text.substr(0, 1500), true));
    ASSERT_TRUE(tokens);
    tokens_ = std::move(*tokens);
  }
  static void TearDownTestSuite() { model_.reset(); }
  void SetUp() override {
    if (!model_) GTEST_SKIP() << "the test model is not there: " << test::model_path();
  }

  static KvShape shape() { return model_->image.config().kv_shape(); }

  static UniqueFd segment(const char* codec) {
    SegmentSpec spec;
    spec.shape = shape();
    spec.codec = *parse_codec(codec);
    spec.model = model_->image.fingerprint();
    spec.tokens = tokens_;
    auto builder = SegmentBuilder::create(spec, memory_room());
    PrefillJob job;
    job.tokens = tokens_;
    job.precision = PrefillPrecision::f32;  // what is tested comes after it
    job.layer_done = [&](const LayerKv& kv) -> Status {
      builder->put_layer(kv.layer, kv.k, kv.v);
      return {};
    };
    EXPECT_TRUE(prefill(model_->image, job, 2));
    return std::move(*std::move(*builder).seal());
  }

  static UniqueFd manifest_of(const UniqueFd& segment) {
    const SegmentView view = *SegmentView::open(*segment.duplicate(), Verify::everything);
    Manifest manifest;
    manifest.version = 1;
    manifest.model = model_->image.fingerprint();
    ManifestSpan span{};
    const Fingerprint identity = segment_identity(view);
    std::copy(identity.begin(), identity.end(), span.segment);
    span.token_end = view.n_tokens();
    span.segment_bytes = view.bytes();
    manifest.spans = {span};
    return std::move(*seal_manifest(manifest, memory_room()));
  }

  static Result<Layout> open(const UniqueFd& manifest, const UniqueFd& segment,
                             const Fingerprint& model) {
    std::vector<UniqueFd> segments;
    segments.push_back(*segment.duplicate());
    return open_layout(*manifest.duplicate(), std::move(segments), model, shape(),
                       Verify::everything);
  }

  static Layout layout_of(const UniqueFd& segment) {
    return std::move(*open(manifest_of(segment), segment, model_->image.fingerprint()));
  }

  inline static std::unique_ptr<AgentModel> model_;
  inline static std::vector<uint32_t> tokens_;  // of the document
};

}  // namespace polykv::test
