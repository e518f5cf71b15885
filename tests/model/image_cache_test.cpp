// What the image cache keeps, and everything that it must not use.
#include "model/image_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "model/image_cache_format.h"
#include "tests/ipc/temp_dir.h"
#include "tests/model/packed.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;
using Entry = std::optional<ImageCache::Entry>;

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

SharedView view_of(const UniqueFd& fd) {
  auto own = fd.duplicate();
  auto view = SharedView::map(std::move(*own));
  check(view.has_value(), "the image maps");
  return std::move(*view);
}

std::string text_of(const SharedView& view) {
  return {reinterpret_cast<const char*>(view.data().data()), view.data().size()};
}

UniqueFd packed(const std::string& path) {
  auto fd = pack_image(path, memory_room());
  check(fd.has_value(), fd ? "" : fd.error().message.c_str());
  return std::move(*fd);
}

class Cache : public testing::Test {
 protected:
  Cache() : model_(test::tiny_model().bytes()) {}
  const std::string& model() const { return model_.path(); }
  std::string directory() const { return base_.path() + "/cache"; }
  ImageCache cache() const {
    auto opened = ImageCache::open(directory());
    check(opened.has_value(), opened ? "" : opened.error().message.c_str());
    return std::move(*opened);
  }
  ImageSource source() const { return *image_source(model(), ""); }
  std::string entry() const { return directory() + '/' + ImageCache::file_name(source()); }

  Result<bool> store() const {
    return cache().store(source(), view_of(packed(model())).data(), {"one", "two"});
  }
  Result<Entry> load(const MemoryRoom& room = {}) const {
    ThreadTeam team(2);
    return cache().load(source(), room, team, {});
  }
  // Refused with these words, and kept anew after that.
  void expect_refused(const std::string& words, ErrorCode code = ErrorCode::bad_segment) {
    const auto loaded = load();
    ASSERT_FALSE(loaded) << words;
    EXPECT_EQ(loaded.error().code, code) << loaded.error().message;
    EXPECT_NE(loaded.error().message.find(words), std::string::npos) << loaded.error().message;
  }
  void expect_replaced() {
    const auto stored = store();
    ASSERT_TRUE(stored) << stored.error().message;
    EXPECT_TRUE(*stored);
    const auto loaded = load();
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_TRUE(*loaded);
  }

  TempDir base_;
  test::TempFile model_;
};

TEST_F(Cache, KeepsAnImageByteForByte) {
  ASSERT_TRUE(*store());
  const auto loaded = load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_TRUE(*loaded);
  EXPECT_EQ(text_of(view_of((*loaded)->image)), text_of(view_of(packed(model()))));
  EXPECT_EQ((*loaded)->notices, (std::vector<std::string>{"one", "two"}));
}

TEST_F(Cache, IsForItsUserAlone) {
  ASSERT_TRUE(*store());
  struct stat info{};
  ASSERT_EQ(::stat(directory().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  ASSERT_EQ(::stat(entry().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  EXPECT_FALSE(fs::exists(entry() + ".part"));
}

TEST_F(Cache, ThatIsEmptyIsNoError) {
  const auto loaded = load();
  ASSERT_TRUE(loaded);
  EXPECT_FALSE(*loaded);
}

TEST_F(Cache, ReportsHowFarItIs) {
  ASSERT_TRUE(*store());
  uint64_t last = 0, all = 1;
  ThreadTeam team(2);
  ASSERT_TRUE(cache().load(source(), {}, team, [&](uint64_t done, uint64_t of) {
    EXPECT_GE(done, last);
    last = done, all = of;
  }));
  EXPECT_EQ(last, all);
}

TEST_F(Cache, RefusesWhatIsCutOff) {
  ASSERT_TRUE(*store());
  const std::string whole = bytes_of(entry());
  for (const size_t size : {size_t{0}, size_t{10}, whole.size() / 2, whole.size() - 1}) {
    put_bytes(entry(), whole.substr(0, size));
    expect_refused("cut off");
  }
  put_bytes(entry(), whole + "x");
  expect_refused("its end is not one");
  expect_replaced();
}

TEST_F(Cache, RefusesAnyByteThatIsChanged) {
  ASSERT_TRUE(*store());
  const std::string whole = bytes_of(entry());
  const size_t last_part = whole.size() - 400;  // the weights' end, notices, trailer: each byte
  for (size_t at = 0; at < whole.size(); at += at < last_part ? 211 : 1) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    put_bytes(entry(), changed);
    const auto loaded = load();
    ASSERT_FALSE(loaded) << "byte " << at << " of " << whole.size();
    ASSERT_EQ(loaded.error().code, ErrorCode::bad_segment) << loaded.error().message;
  }
  expect_replaced();
}

// The trailer made right again, as somebody would who knows the format.
std::string with_trailer(std::string bytes, const std::function<void(CacheTrailer&)>& change) {
  CacheTrailer trailer;
  char* at = bytes.data() + bytes.size() - sizeof trailer;
  std::memcpy(&trailer, at, sizeof trailer);
  change(trailer);
  trailer.trailer_checksum = 0;
  trailer.trailer_checksum = checksum64(std::as_bytes(std::span(&trailer, 1)));
  std::memcpy(at, &trailer, sizeof trailer);
  return bytes;
}

TEST_F(Cache, RefusesATrailerThatDoesNotFit) {
  ASSERT_TRUE(*store());
  const std::string whole = bytes_of(entry());
  const std::pair<std::function<void(CacheTrailer&)>, const char*> changes[] = {
      {[](CacheTrailer& t) { t.version += 1; }, "another format"},
      {[](CacheTrailer& t) { t.trailer_bytes += 8; }, "another format"},
      {[](CacheTrailer& t) { t.reserved[23] = 1; }, "another format"},
      {[](CacheTrailer& t) { t.image_bytes += 1; }, "the size that its end says"},
      {[](CacheTrailer& t) { t.image_bytes = UINT64_MAX; }, "the size that its end says"},
      {[](CacheTrailer& t) { t.notices_bytes = UINT64_MAX - 100; }, "the size that its end says"},
      {[](CacheTrailer& t) { t.place[3] ^= 1; }, "another model"},
      {[](CacheTrailer& t) { t.state[3] ^= 1; }, "stale"},
      {[](CacheTrailer& t) { t.image_fingerprint[3] ^= 1; }, "holds another image"}};
  for (const auto& [change, words] : changes) {
    put_bytes(entry(), with_trailer(whole, change));
    expect_refused(words);
  }
  expect_replaced();
}

TEST_F(Cache, RefusesTheImageOfAnotherModelUnderItsName) {
  ASSERT_TRUE(*store());
  const std::string own = bytes_of(entry());
  test::GgufWriter other_model = test::tiny_model();
  other_model.text("general.name", "other");
  const test::TempFile other(other_model.bytes());
  const ImageSource other_source = *image_source(other.path(), "");
  const auto image = view_of(packed(other.path()));
  ASSERT_TRUE(*cache().store(other_source, image.data(), {"one", "two"}));
  fs::rename(directory() + '/' + ImageCache::file_name(other_source), entry());
  expect_refused("another model");
  const std::string trailer = own.substr(own.size() - sizeof(CacheTrailer) - 8);  // and notices
  put_bytes(entry(), with_trailer(text_of(image) + trailer,
                                  [&](CacheTrailer& t) { t.image_bytes = image.data().size(); }));
  expect_refused("holds another image");
  expect_replaced();
}

TEST_F(Cache, RefusesFilesThatAreNotItsOwn) {
  ASSERT_TRUE(*store());
  ASSERT_EQ(::chmod(entry().c_str(), 0620), 0);
  expect_refused("written by others");
  ASSERT_EQ(::chmod(entry().c_str(), 0600), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(entry().c_str(), 12345, 0), 0);
    expect_refused("another user");
  }
  fs::rename(entry(), entry() + ".away");
  fs::create_symlink(entry() + ".away", entry());
  expect_refused("no link", ErrorCode::io);
  fs::remove(entry());
  ASSERT_EQ(::mkfifo(entry().c_str(), 0600), 0);
  expect_refused("not a regular file");
  fs::remove(entry());
  expect_replaced();
}

TEST_F(Cache, WithoutRoomIsRefused) {
  ASSERT_TRUE(*store());
  MemoryRoom room;
  room.budget = 1000;
  const auto loaded = load(room);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::memory_limit);
}

TEST_F(Cache, IsRefusedWhereOthersMayWriteOrOwn) {
  const auto refused = [&](const std::string& path) {
    const auto opened = ImageCache::open(path);
    return !opened && opened.error().code == ErrorCode::io;
  };
  const std::string place = base_.path() + '/';
  put_bytes(place + "file", "x");
  EXPECT_TRUE(refused(place + "file"));
  EXPECT_TRUE(refused(place + "missing/cache"));
  fs::create_directory(place + "open");
  EXPECT_FALSE(refused(place + "open"));
  fs::create_symlink(place + "open", place + "link");
  EXPECT_TRUE(refused(place + "link"));
  for (const mode_t mode : {0770, 0707, 01777}) {
    ASSERT_EQ(::chmod((place + "open").c_str(), mode), 0);
    EXPECT_TRUE(refused(place + "open")) << mode;
  }
  if (::geteuid() != 0) return;
  fs::create_directory(place + "foreign");
  ASSERT_EQ(::chown((place + "foreign").c_str(), 12345, 0), 0);
  EXPECT_TRUE(refused(place + "foreign"));
}

TEST_F(Cache, LeavesWhatAnotherWriterIsWriting) {
  ASSERT_TRUE(*store());
  const std::string before = bytes_of(entry());
  const UniqueFd other(::open((entry() + ".part").c_str(), O_WRONLY | O_CREAT, 0600));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  const auto stored = store();
  ASSERT_TRUE(stored) << stored.error().message;
  EXPECT_FALSE(*stored);
  EXPECT_EQ(bytes_of(entry()), before);
  EXPECT_TRUE(*load());
}

TEST_F(Cache, TakesOverWhatADeadWriterHasLeft) {
  (void)cache();
  put_bytes(entry() + ".part", std::string(1 << 20, 'x'));
  EXPECT_FALSE(*load()) << "a part is no entry";
  expect_replaced();
  EXPECT_FALSE(fs::exists(entry() + ".part"));
}

TEST_F(Cache, SaysWhyItCannotKeep) {
  fs::create_directories(entry() + ".part");
  ASSERT_EQ(::chmod(directory().c_str(), 0700), 0);
  const auto stored = store();
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().code, ErrorCode::io);
}

TEST_F(Cache, WithoutSpaceKeepsWhatItHad) {
  ASSERT_TRUE(*store());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const UniqueFd image = packed(model());
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto stored = cache().store(source(), view_of(image).data(), {});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().code, ErrorCode::memory_limit);
  EXPECT_FALSE(fs::exists(entry() + ".part"));
  EXPECT_TRUE(*load());
}

TEST_F(Cache, ManyAtOnceNeverSeeHalfAnImage) {
  const UniqueFd image = packed(model());
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&] {
      for (int n = 0; n < 25; ++n) {
        const auto stored = cache().store(source(), view_of(image).data(), {"x"});
        EXPECT_TRUE(stored) << stored.error().message;
        const auto loaded = load();
        EXPECT_TRUE(loaded) << loaded.error().message;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_TRUE(*load());
}

// Changes a file again and again until the clock of its file system has moved on.
template <class Change>
void until_the_clock_moves(const std::string& path, const Change& change) {
  struct stat before{}, now{};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  do {
    change();
    ASSERT_EQ(::stat(path.c_str(), &now), 0);
  } while (now.st_ctim.tv_sec == before.st_ctim.tv_sec &&
           now.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
}

TEST_F(Cache, IsStaleOnceTheModelWasWritten) {
  ASSERT_TRUE(*store());
  struct stat info{};
  ASSERT_EQ(::stat(model().c_str(), &info), 0);
  const timespec times[] = {info.st_atim, info.st_mtim};
  until_the_clock_moves(model(), [&] {  // the same size, and the time of change put back
    put_bytes(model(), bytes_of(model()));
    ASSERT_EQ(::utimensat(AT_FDCWD, model().c_str(), times, 0), 0);
  });
  expect_refused("stale");
  expect_replaced();
}

TEST_F(Cache, IsStaleOnceTheModelWasReplaced) {
  ASSERT_TRUE(*store());
  const ImageSource before = source();
  fs::copy_file(model(), model() + ".new");
  fs::last_write_time(model() + ".new", fs::last_write_time(model()));
  fs::rename(model() + ".new", model());
  EXPECT_EQ(source().place, before.place);
  expect_refused("stale");
}

TEST_F(Cache, TellsChatFormatsApart) {
  EXPECT_NE(image_source(model(), "plain")->place, source().place);
}

TEST(CacheSource, CountsEveryFileOfACheckpoint) {
  const TempDir base;
  const std::string folder = base.path() + "/hub";
  fs::copy(POLYKV_SOURCE_DIR "/tests/fixtures/hub_qwen2", folder);
  Fingerprint last = image_source(folder, "")->state;
  size_t shards = 0;
  const auto changed = [&] {
    const Fingerprint before = std::exchange(last, image_source(folder, "")->state);
    return before != last;
  };
  std::vector<std::string> files;
  for (const auto& file : fs::directory_iterator(folder)) files.push_back(file.path().string());
  for (const std::string& file : files) {
    shards += file.ends_with(".safetensors") ? 1 : 0;
    fs::permissions(file, fs::perms::owner_all);
    (void)changed();
    std::ofstream(file, std::ios::app) << ' ';
    EXPECT_TRUE(changed()) << file;
  }
  EXPECT_GE(shards, 2U);
  for (const char* added : {"generation_config.json", "chat_template.jinja"}) {
    fs::remove(folder + '/' + added);
    (void)changed();
    put_bytes(folder + '/' + added, "{}");
    EXPECT_TRUE(changed()) << added;
  }
  EXPECT_FALSE(changed()) << "nothing changed";
}

TEST(CacheSource, OfAMissingModelIsRefused) {
  const auto source = image_source("/nowhere/model.gguf", "");
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::bad_model_file);
}

}  // namespace
}  // namespace polykv
