#!/usr/bin/env python3
"""Makes tests/fixtures/chat.json: what the models' own templates make of conversations.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf jinja2
    /tmp/venv/bin/pip download --no-deps --no-binary=llama-cpp-python llama-cpp-python  # an sdist
    /tmp/venv/bin/python tests/scripts/make_chat_fixture.py SmolLM2.gguf \\
        llama_cpp_python-*/vendor/llama.cpp/models/templates tests/fixtures/chat.json

A list of {"format", "recognised", "bos", "conversations": [{"messages", "text"}]}. "recognised" is
what a template holds of what formats are recognised by: the templates themselves are not ours.
"""
import json
import pathlib
import re
import sys

import gguf
import jinja2
import jinja2.sandbox

# Some that come with no collection, as their models' cards describe them.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = messages[0]['content'] %}{% else %}{% set rest = messages %}"
    "{% set system = false %}{% endif %}{% for message in rest %}"
    "{% if loop.index0 == 0 and system != false %}"
    "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = messages[0]['content'] + '\\n\\n' %}{% else %}{% set rest = messages %}"
    "{% set system = '' %}{% endif %}{{ bos_token }}{% for message in rest %}"
    "{% if message['role'] == 'user' %}{{ 'OPEN' + (system if loop.first else '') + "
    "message['content'] + 'CLOSE' }}{% else %}{{ ' ' + message['content'] + eos_token }}"
    "{% endif %}{% endfor %}")
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}")
GEMMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = messages[0]['content'] + '\\n\\n' %}{% else %}{% set rest = messages %}"
    "{% set system = '' %}{% endif %}{% for message in rest %}"
    "{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\\n' + (system if loop.first else '') + "
    "message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}")
SIGNS = ["<|im_start|>", "<|im_end|>", "You are Qwen, created by Alibaba Cloud.",
         "<|start_header_id|>", "<|end_header_id|>", "Cutting Knowledge Date", "<start_of_turn>",
         "<end_of_turn>", "[SYSTEM_PROMPT]", "<<SYS>>", "bos_token + '[INST]", " [INST] ",
         "[INST] ", "[INST]", "[/INST]"]


def templates(model, folder):
    """Format, template, beginning token, end token, whether it takes a system message."""
    fields = gguf.GGUFReader(model).fields
    smollm = fields["tokenizer.chat_template"].contents()
    # Its own default system message is left out: a pool's document is the system message.
    default = r"{% if loop.first and messages\[0\]\['role'\] != 'system' %}.*?{% endif %}"
    smollm = re.sub(default, "", smollm, flags=re.S)

    def read(name):
        return pathlib.Path(folder, name + ".jinja").read_text(encoding="utf-8")

    def mistral(start, end):
        return MISTRAL.replace("OPEN", start).replace("CLOSE", end)

    header = "<|begin_of_text|>", "<|eot_id|>"
    yield "chatml", smollm, "", "", True
    yield "chatml", read("Qwen-Qwen3-0.6B"), "", "", True
    yield "qwen", read("Qwen-Qwen2.5-7B-Instruct"), "", "", True
    yield "llama3", LLAMA3, *header, True
    yield "llama31", read("meta-llama-Llama-3.1-8B-Instruct"), *header, True
    yield "llama31", read("meta-llama-Llama-3.2-3B-Instruct"), *header, True
    yield "llama31", read("meta-llama-Llama-3.3-70B-Instruct"), *header, True
    yield "llama2", LLAMA2, "<s>", "</s>", True
    yield "mistral", mistral(" [INST] ", " [/INST]"), "<s>", "</s>", True
    yield "mistral3", mistral("[INST] ", "[/INST]"), "<s>", "</s>", True
    yield "gemma", read("google-gemma-2-2b-it"), "<bos>", "<eos>", False
    yield "gemma", GEMMA3, "<bos>", "<eos>", True


def conversations(with_system):
    says = ["  What is it?\n", "It is 42.", "Why?\n\nTell me  ", " Because.\n", "Grüße, 你好"]
    for turns in (1, 3, 5):
        roles = ["user", "assistant"] * 3
        messages = [{"role": role, "content": text} for role, text in zip(roles, says[:turns])]
        yield messages
        if with_system:
            yield [{"role": "system", "content": "Be brief.\nAlways."}] + messages


def render(template, messages, bos, eos):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    return environment.from_string(template).render(
        messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=True)


def main(model, folder, output):
    found = []
    for name, template, bos, eos, with_system in templates(model, folder):
        found.append({
            "format": name, "bos": bos,
            "recognised": "\n".join(sign for sign in SIGNS if sign in template),
            "conversations": [{"messages": messages, "text": render(template, messages, bos, eos)}
                              for messages in conversations(with_system)]})
    text = json.dumps(found, ensure_ascii=False, indent=1)
    pathlib.Path(output).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
