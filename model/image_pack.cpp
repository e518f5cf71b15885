// Packs a model into an image: tables first, then the weights (model/image_weights.h).
#include <algorithm>
#include <cstring>
#include <set>

#include "model/chat.h"
#include "model/image.h"
#include "model/image_blocks.h"
#include "model/image_config.h"
#include "model/image_plan.h"
#include "model/image_vocab.h"
#include "model/image_weights.h"
#include "model/model_file.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"

namespace polykv {
namespace {

bool is_rounded(GgufType type) {
  const BlockForm* blocks = block_form(type);
  return blocks != nullptr && blocks->rounds;
}

class Packer {
 public:
  Packer(const ModelFile& file, const std::function<void(uint64_t, uint64_t)>& progress,
         std::vector<std::string>* notices, std::string_view chat_format)
      : file_(file), progress_(progress), notices_(notices), chat_format_(chat_format) {}
  Result<UniqueFd> run(const MemoryRoom& room, unsigned n_threads);

 private:
  Status read();
  Status choose_chat_format();
  Status read_generation();
  Status plan_tensors();
  Status refuse_strangers() const;
  void plan_sections();
  void plan_weights();
  void add_section(ImageSection section, std::span<const std::byte> bytes);
  void notice(bool (*concerns)(const FileTensor&), const std::string& sentence) const;
  std::string name() const;
  void write_tables(std::span<std::byte> image) const;
  Status write_weights(std::span<std::byte> image, unsigned n_threads) const;
  void write_header(std::span<std::byte> image);

  const ModelFile& file_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  std::vector<std::string>* notices_;
  VocabTables vocab_{};
  std::string name_, chat_format_;
  std::vector<PlannedTensor> plan_;
  std::vector<const FileTensor*> tensors_;  // as plan_
  std::vector<Weight> forms_;               // as plan_
  std::vector<TensorEntry> entries_;        // as plan_
  std::span<const std::byte> contents_[kImageSections];
  uint64_t end_ = sizeof(ImageHeader);
  ImageHeader header_{};
};

std::string Packer::name() const {
  const std::string given = file_.name();
  const bool usable = !given.empty() && given.size() <= 256 && !invalid_utf8(given);
  return usable ? given : "unnamed";
}

Status Packer::read() {
  auto config = read_config(file_.parameters());
  if (!config) return pass(config);
  header_.config = *config;
  auto said = file_.vocab();
  if (!said) return pass(said);
  auto vocab = build_vocab(*said);
  if (!vocab) return pass(vocab);
  vocab_ = std::move(*vocab);
  if (vocab_.kinds.size() != config->n_vocab) {
    return fail(ErrorCode::bad_model_file,
                cat("the vocabulary has ", vocab_.kinds.size(),
                    " tokens but the token embedding has ", config->n_vocab, " rows"),
                std::to_string(vocab_.kinds.size()), std::to_string(config->n_vocab));
  }
  name_ = name();
  auto done = read_generation();
  if (done) done = choose_chat_format();
  return done ? plan_tensors() : done;
}

Status Packer::read_generation() {
  auto said = file_.generation();
  if (!said) return pass(said);
  const SamplingOptions& s = said->sampling;
  header_.sampling = {s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty};
  if (notices_ != nullptr)
    notices_->insert(notices_->end(), said->notices.begin(), said->notices.end());
  return {};
}

// The one that was asked for, or that of the file's template, if its tokens exist.
Status Packer::choose_chat_format() {
  const auto refuse = [&](const std::string& what, std::string value) {
    return fail(ErrorCode::unsupported_model,
                cat(file_.parameters().place(), ": ", what,
                    "; choose one with --chat-format: ", chat_format_names()),
                std::move(value), chat_format_names());
  };
  auto chat_template = file_.chat_template();
  if (!chat_template) return pass(chat_template);
  if (chat_format_.empty()) {
    const auto known = recognise_chat_format(*chat_template);
    if (!known && chat_template->empty()) return refuse("it gives no chat format", "");
    if (!known) {
      return refuse(cat("its chat template is not one that this build recognises, it begins with ",
                        printable(chat_template->substr(0, 60))),
                    printable(chat_template->substr(0, 60)));
    }
    chat_format_ = *known;
  }
  auto format = ChatFormat::find(chat_format_);
  if (!format) return pass(format);
  for (const std::string& token : format->needed_tokens()) {
    if (find_token(vocab_.view(), token, TokenClass::special)) continue;
    return refuse(cat("the chat format ", chat_format_, " needs the special token ", token,
                      ", which the vocabulary has not"),
                  token);
  }
  return {};
}

Status Packer::plan_tensors() {
  plan_ = image_plan(header_.config);
  for (const PlannedTensor& planned : plan_) {
    const std::string name = file_.name_of(planned);
    const FileTensor* tensor = file_.tensor(name);
    if (tensor == nullptr) {
      return fail(ErrorCode::bad_model_file,
                  cat(file_.parameters().place(), ": tensor ", name, " is missing"), name);
    }
    tensors_.push_back(tensor);
    auto form = packed_form(*tensor, planned);
    if (!form) return pass(form);
    forms_.push_back(*form);
  }
  notice([](const auto& tensor) { return tensor.type == GgufType::f32; },
         " F32 matrices are kept as bf16");
  notice([](const auto& tensor) { return is_rounded(tensor.type); },
         " K-quantised matrices have their blocks' scales rounded to f16");
  return refuse_strangers();
}

// A tensor without a place (a bias, an expert) would silently change the model's
// answers.
Status Packer::refuse_strangers() const {
  std::set<std::string_view> known;
  for (const FileTensor* tensor : tensors_) known.insert(tensor->name);
  for (const std::string_view name : file_.tensor_names()) {
    if (known.contains(name) || file_.may_ignore(name)) continue;
    return fail(ErrorCode::unsupported_model,
                cat(file_.parameters().place(), ": tensor ", printable(name),
                    " has no place in the models that this build runs"),
                printable(name));
  }
  return {};
}

// Says how many matrices something is true of, and names the first.
void Packer::notice(bool (*concerns)(const FileTensor&), const std::string& sentence) const {
  size_t n = 0;
  std::string first;
  for (size_t i = 0; i < plan_.size(); ++i) {
    if (plan_[i].is_vector || !concerns(*tensors_[i])) continue;
    if (n++ == 0) first = tensors_[i]->name;
  }
  if (n == 0 || notices_ == nullptr) return;
  notices_->push_back(cat(n, sentence, " (the first is ", first, ")"));
}

void Packer::add_section(ImageSection section, std::span<const std::byte> bytes) {
  const auto index = static_cast<size_t>(section);
  contents_[index] = bytes;
  header_.sections[index] = {end_, bytes.size()};
  end_ = image_align(end_ + bytes.size());
}

void Packer::plan_sections() {
  entries_.resize(plan_.size());
  add_section(ImageSection::name, std::as_bytes(std::span(name_)));
  add_section(ImageSection::chat_format, std::as_bytes(std::span(chat_format_)));
  add_section(ImageSection::text_offsets, std::as_bytes(std::span(vocab_.text_offsets)));
  add_section(ImageSection::texts, std::as_bytes(std::span(vocab_.texts)));
  add_section(ImageSection::kinds, std::as_bytes(std::span(vocab_.kinds)));
  add_section(ImageSection::text_slots, std::as_bytes(std::span(vocab_.text_slots)));
  add_section(ImageSection::merge_slots, std::as_bytes(std::span(vocab_.merge_slots)));
  add_section(ImageSection::merges, std::as_bytes(std::span(vocab_.merges)));
  add_section(ImageSection::tensors, std::as_bytes(std::span(entries_)));
  header_.weights_begin = end_;
}

void Packer::plan_weights() {
  for (size_t i = 0; i < plan_.size(); ++i) {
    const Weight& form = forms_[i];
    const WeightBytes bytes = *weight_bytes(form);
    TensorEntry& entry = entries_[i];
    entry = {static_cast<uint16_t>(plan_[i].role),
             plan_[i].layer,
             static_cast<uint32_t>(form.type),
             form.n_rows,
             form.n_cols,
             form.block,
             form.has_min,
             {end_, bytes.values},
             {},
             0};
    end_ = image_align(end_ + bytes.values);
    if (bytes.scales == 0) continue;
    entry.scales = {end_, bytes.scales};
    end_ = image_align(end_ + bytes.scales);
  }
}

void Packer::write_tables(std::span<std::byte> image) const {
  for (size_t i = 0; i < kImageSections; ++i) {
    if (contents_[i].empty()) continue;
    std::memcpy(image.data() + header_.sections[i].offset, contents_[i].data(),
                contents_[i].size());
  }
}

Status Packer::write_weights(std::span<std::byte> image, unsigned n_threads) const {
  const auto report = [&](uint64_t done) {
    if (progress_) progress_(std::min(header_.weights_begin + done, end_), end_);
  };
  std::vector<WeightToPack> weights;
  for (size_t i = 0; i < plan_.size(); ++i) {
    const auto [values, scales] = std::pair(entries_[i].values, entries_[i].scales);
    weights.push_back({tensors_[i], forms_[i], image.subspan(values.offset, values.bytes),
                       image.subspan(scales.offset, scales.bytes)});
  }
  report(0);
  ThreadTeam team(n_threads);
  auto packed = pack_weights(weights, team, report);
  if (packed) report(end_);
  return packed;
}

// Last, because its checksums are over all the rest. The fingerprint covers the header from
// `config` on.
void Packer::write_header(std::span<std::byte> image) {
  header_.magic = kImageMagic;
  header_.abi = kImageAbi;
  header_.header_bytes = sizeof(ImageHeader);
  header_.bytes = end_;
  header_.bos = vocab_.bos;
  header_.eos = vocab_.eos;
  header_.pre_tokenizer = static_cast<uint32_t>(vocab_.pre_tokenizer);
  header_.tokenizer_flags = vocab_.flags;
  header_.n_ends = static_cast<uint32_t>(vocab_.ends.size());
  std::ranges::copy(vocab_.ends, header_.ends);
  header_.n_tensors = static_cast<uint32_t>(entries_.size());
  header_.tables_checksum =
      checksum64(image.subspan(sizeof(ImageHeader), header_.weights_begin - sizeof(ImageHeader)));
  std::memcpy(image.data(), &header_, sizeof header_);
  const Fingerprint print = fingerprint128(image.subspan(offsetof(ImageHeader, config)));
  std::memcpy(header_.fingerprint, print.data(), print.size());
  header_.header_checksum = checksum64(std::as_bytes(std::span(&header_, 1)));
  std::memcpy(image.data(), &header_, sizeof header_);
}

Result<UniqueFd> Packer::run(const MemoryRoom& room, unsigned n_threads) {
  auto read_all = read();
  if (!read_all) return pass(read_all);
  plan_sections();
  plan_weights();
  auto builder = SharedBuilder::create("polykv-image", end_, room);
  if (!builder) return pass(builder);
  write_tables(builder->data());
  auto written = write_weights(builder->data(), n_threads);
  if (!written) return pass(written);
  write_header(builder->data());
  return std::move(*builder).seal();
}

}  // namespace

Result<UniqueFd> pack_image(const std::string& model_path, const MemoryRoom& room,
                            const std::function<void(uint64_t, uint64_t)>& progress,
                            std::vector<std::string>* notices, std::string_view chat_format,
                            unsigned n_threads) {
  auto file = ModelFile::open(model_path);
  if (!file) return pass(file);
  return Packer(**file, progress, notices, chat_format).run(room, n_threads);
}

}  // namespace polykv
