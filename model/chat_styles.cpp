// One entry a format.
#include "model/chat_styles.h"

namespace polykv {
namespace {

constexpr ChatPart special(std::string_view name) { return {name, true}; }

constexpr ChatStyle kChatml = {
    .name = "chatml",
    .separator = "\n",
    .system = {{special("<|im_start|>"), {"system\n"}}, {special("<|im_end|>")}},
    .user = {{special("<|im_start|>"), {"user\n"}}, {special("<|im_end|>")}},
    .assistant = {{special("<|im_start|>"), {"assistant\n"}}, {special("<|im_end|>")}},
    .opens_answer = {{"\n"}, special("<|im_start|>"), {"assistant\n"}},
    .stops = {"<|im_end|>", "<|endoftext|>"},
};

constexpr ChatStyle kLlama3 = {
    .name = "llama3",
    .writes_bos = true,
    .trim = ChatTrim::content,
    .system = {{special("<|start_header_id|>"), {"system"}, special("<|end_header_id|>"), {"\n\n"}},
               {special("<|eot_id|>")}},
    .user = {{special("<|start_header_id|>"), {"user"}, special("<|end_header_id|>"), {"\n\n"}},
             {special("<|eot_id|>")}},
    .assistant =
        {{special("<|start_header_id|>"), {"assistant"}, special("<|end_header_id|>"), {"\n\n"}},
         {special("<|eot_id|>")}},
    .opens_answer = {special("<|start_header_id|>"),
                     {"assistant"},
                     special("<|end_header_id|>"),
                     {"\n\n"}},
    .stops = {"<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"},
};

constexpr ChatStyle qwen() {
  ChatStyle style = kChatml;
  style.name = "qwen";
  style.default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
  return style;
}

// Llama 3.1 to 3.3. The date is the one that the template falls back to: a context that changed
// every day could not be shared.
constexpr ChatStyle llama31() {
  ChatStyle style = kLlama3;
  style.name = "llama31";
  style.preamble = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  return style;
}

// Borders are plain text here: a document can look like one.
constexpr ChatStyle kLlama2 = {
    .name = "llama2",
    .bos_each_user = true,
    .has_system = false,
    .trim = ChatTrim::message,
    .system_before = "<<SYS>>\n",
    .system_after = "\n<</SYS>>\n\n",
    .user = {{{"[INST] "}}, {{" [/INST]"}}},
    .assistant = {{{" "}}, {{" "}, special("</s>")}},
    .stops = {"</s>"},
};

// Mistral 7B Instruct v0.1 and v0.2.
constexpr ChatStyle kMistral = {
    .name = "mistral",
    .writes_bos = true,
    .has_system = false,
    .system_after = "\n\n",
    .user = {{{" [INST] "}}, {{" [/INST]"}}},
    .assistant = {{{" "}}, {special("</s>")}},
    .stops = {"</s>"},
};

// From v0.3 on the borders are tokens.
constexpr ChatStyle kMistral3 = {
    .name = "mistral3",
    .writes_bos = true,
    .has_system = false,
    .system_after = "\n\n",
    .user = {{special("[INST]"), {" "}}, {special("[/INST]")}},
    .assistant = {{{" "}}, {special("</s>")}},
    .stops = {"</s>"},
};

constexpr ChatStyle kGemma = {
    .name = "gemma",
    .writes_bos = true,
    .has_system = false,
    .trim = ChatTrim::content,
    .separator = "\n",
    .system_after = "\n\n",
    .user = {{special("<start_of_turn>"), {"user\n"}}, {special("<end_of_turn>")}},
    .assistant = {{special("<start_of_turn>"), {"model\n"}}, {special("<end_of_turn>")}},
    .opens_answer = {{"\n"}, special("<start_of_turn>"), {"model\n"}},
    .stops = {"<end_of_turn>", "<eos>"},
};

// No format: texts one after the other, for models that were not taught to chat.
constexpr ChatStyle kPlain = {
    .name = "plain",
    .separator = "\n\n",
};

constexpr ChatStyle kStyles[] = {kChatml,  qwen(),    kLlama3, llama31(), kLlama2,
                                 kMistral, kMistral3, kGemma,  kPlain};

}  // namespace

std::span<const ChatStyle> chat_styles() { return kStyles; }

}  // namespace polykv
