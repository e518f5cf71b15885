// Where a writer gets a model's image from: its file, or the cache.
#include "writer/image_maker.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "model/image_cache.h"
#include "tests/ipc/temp_dir.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

class Maker : public testing::Test {
 protected:
  Maker() : model_(test::tiny_model().bytes()) {}
  std::string cache() const { return base_.path() + "/cache"; }
  std::string entry() const {
    return cache() + '/' + ImageCache::file_name(*image_source(model_.path(), ""));
  }
  // One start of a writer. What is being kept is kept when this returns.
  Result<MadeImage> start(const std::string& directory) {
    phases_.clear();
    return ImageMaker(directory, 2)
        .make(model_.path(), "", [&](const char* phase, uint64_t done, uint64_t all) {
          EXPECT_LE(done, all);
          phases_.insert(phase);
          if (on_progress_) on_progress_();
        });
  }
  // Whence, and what was done for it.
  std::pair<bool, std::set<std::string>> source(const std::string& directory) {
    auto made = start(directory);
    EXPECT_TRUE(made) << made.error().message;
    return {made && made->from_cache, phases_};
  }

  const std::pair<bool, std::set<std::string>> kPacked{false, {"packing"}};
  const std::pair<bool, std::set<std::string>> kLoaded{true, {"loading"}};
  std::set<std::string> phases_;
  std::function<void()> on_progress_;
  TempDir base_;
  test::TempFile model_;
};

std::string bytes_of(const UniqueFd& fd) {
  auto own = fd.duplicate();
  auto view = SharedView::map(std::move(*own));
  EXPECT_TRUE(view);
  return {reinterpret_cast<const char*>(view->data().data()), view->data().size()};
}

TEST_F(Maker, PacksOnceAndLoadsThen) {
  const auto first = start(cache());
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_FALSE(first->from_cache);
  EXPECT_FALSE(first->notices.empty()) << "the tiny model has a matrix in F32";
  const auto second = start(cache());
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(second->from_cache);
  EXPECT_EQ(bytes_of(second->fd), bytes_of(first->fd));
  EXPECT_EQ(second->notices, first->notices) << "what is known of an image is not forgotten";
}

TEST_F(Maker, WithoutACacheKeepsNothing) {
  EXPECT_EQ(source(""), kPacked);
  EXPECT_EQ(source(""), kPacked);
  EXPECT_FALSE(std::filesystem::exists(cache()));
}

TEST_F(Maker, ReplacesWhatItCannotUse) {
  EXPECT_EQ(source(cache()), kPacked);
  std::ofstream(entry(), std::ios::trunc) << "nonsense";
  EXPECT_EQ(source(cache()), kPacked);
  EXPECT_EQ(source(cache()), kLoaded);
}

TEST_F(Maker, GoesOnWithoutADirectory) {
  std::ofstream(cache()) << "a file is in its place";
  EXPECT_EQ(source(cache()), kPacked);
}

TEST_F(Maker, KeepsNoImageOfAModelThatChangedMeanwhile) {
  on_progress_ = [&] { std::ofstream(model_.path(), std::ios::app) << ' '; };
  EXPECT_EQ(source(cache()), kPacked);
  EXPECT_FALSE(std::filesystem::exists(entry()));
  on_progress_ = {};
  EXPECT_EQ(source(cache()), kPacked);
  EXPECT_EQ(source(cache()), kLoaded);
}

TEST_F(Maker, SaysWhatIsWrongWithTheModel) {
  EXPECT_EQ(source(cache()), kPacked);
  std::filesystem::resize_file(model_.path(), 100);
  for (const std::string& directory : {std::string(), cache()}) {
    const auto refused = start(directory);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::bad_model_file);
  }
}

}  // namespace
}  // namespace polykv
