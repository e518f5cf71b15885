"""A valid message of every type, with every field that it may have (docs/protocol.schema.json)."""

_MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
_SAMPLING = {"max_tokens": 8, "min_tokens": 1, "temperature": 0.5, "top_k": 4, "top_p": 0.9,
             "min_p": 0.1, "repetition_penalty": 1.1, "seed": "18446744073709551615",
             "stop": ["\n"], "ignore_eos": False, "logprobs": True, "top_logprobs": 2}
_CHOICE = {"token": 5, "text": "\ufffd", "bytes": [195], "logprob": -0.5}
_LOGPROBS = [{**_CHOICE, "top": [_CHOICE]}]
_POOL = {"pool": "main", "model": "small"}
_DEADLINE = {"deadline_seconds": 60}

OBJECTS = {
    "chat_message": _MESSAGES[0],
    "group_member": {"agent": "a01", "seed": "1", "prompt": "Why?"},
    "token_choice": _CHOICE,
    "token_logprob": _LOGPROBS[0],
    "version_status": {"version": 1, "tokens": 9, "leases": 1, "pinned": True},
    "model_status": {"model": "small", "name": "Small 1M", "fingerprint": "ab" * 16,
                     "image_bytes": 10**8, "positions": 8192, "sampling": "greedy",
                     "writer_pid": 11, "writer_state": "ready", "writer_restarts": 0,
                     "image_source": "cache"},
    "agent_status": {"agent": "a01", "pid": 12, "state": "idle", "model": "small", "pool": "main",
                     "version": 1, "kernel": "ref", "attach_ms": 1.5, "private_bytes": 10**6,
                     "tokens": 5, "tokens_per_s": 9.5, "restarts": 0, "lanes": 15, "running": 3,
                     "threads": 2, "last_error": ""},
}
OBJECTS["layer_stats"] = {
    "layer": 0, "rows": 9, "k_rms": 1.5, "k_largest": 9.5, "k_mean_share": 0.5, "k_peak": 4.5,
    "k_error": 0.1, "v_rms": 0.5, "v_largest": 2.5, "v_mean_share": 0.1, "v_peak": 4.5,
    "v_error": 0.1, "score_error": 0.2, "worst_head": 1, "worst_score_error": 0.4,
    "widened_planes": 1}
OBJECTS["pool_status"] = {
    "pool": "main", "model": "small", "version": 1, "codec": "k4v4", "tokens": 9, "bytes": 4096,
    "bits_per_element": 4.25, "segments": 1, "leases": 1, "idle_seconds": 0.5, "ttl_seconds": 60,
    "precision": "fast: products tiles, attention tiles",
    "versions": [OBJECTS["version_status"]]}

REQUESTS = {
    "hello": {"client": "test"},
    "pool_create": {**_POOL, "codec": "k4v4", "ttl_seconds": 60, "text": "A text.",
                    "role": "system", "reserve": 64, **_DEADLINE},
    "append": {**_POOL, "path": "/nowhere/text", "role": "user", "reserve": 64, **_DEADLINE},
    "pool_fork": {**_POOL, "version": 1, "to": "other", "ttl_seconds": 60},
    "pool_drop": {**_POOL},
    "pool_pin": {**_POOL, "version": 1, "ttl_seconds": 60},
    "pool_unpin": {**_POOL, "version": 1},
    "agents_start": {**_POOL, "version": 1, "count": 1, **_DEADLINE},
    "agents_stop": {"agent": "a01"},
    "generate": {**_POOL, "version": 1, "agent": "a01", "prompt": "Why?", **_DEADLINE,
                 **_SAMPLING},
    "group_generate": {**_POOL, "at_least": 1, "members": [OBJECTS["group_member"]], **_DEADLINE,
                       **_SAMPLING},
    "commit": {"request": "r1", **_DEADLINE},
    "score": {"agent": "a01"},
    "cancel": {"request": "r1"},
    "status": {},
    "shutdown": {},
    "tokenize": {"job": "1", "form": "document", "role": "system", "first": True,
                 "model": "small"},
    "prefill": {"job": "1", "codecs": ["k4v4"], "pool": "main", "budget_left": "100",
                "holders": "pool main", "per_layer": True, "model": "small"},
}

ANSWERS = {
    "ok": {"agents": ["a01"], "version": 1},
    "welcome": {"runtime": 10, "version": "0.1.0"},
    "pool_ready": {**_POOL, "version": 1, "tokens": 9, "bytes": 4096, "bits_per_element": 4.25,
                   "elements": 7710, "segments": 1, "prefill_tokens": 9, "prefill_seconds": 0.5,
                   "precision": "f32", "widened_planes": 1, "layers": [OBJECTS["layer_stats"]]},
    "pool_dropped": {**_POOL, "version": 1, "leases": 0, "reason": "asked"},
    "committed": {**_POOL, "version": 2, "agent": "a01", "pid": 12, "turn_tokens": 20,
                  "tokens": 29, "bytes": 8192, "segments": 2, "prefill_tokens": 0,
                  "inode": "9223372036854775808"},
    "group_started": {**_POOL, "version": 1, "agents": ["a01", "a02"]},
    "group_done": {**_POOL, "version": 1, "finished": 2, "failed": 0},
    "agent_born": {**_POOL, "agent": "a01", "pid": 12, "version": 1, "restarts": 0},
    "agent_ended": {**_POOL, "agent": "a01", "pid": 12, "story": "killed by signal 9"},
    "progress": {"job": "1", "phase": "prefill", "done": 1, "all": 2, "rate": 9.5},
    "token": {"agent": "a01", "pool": "main", "member": 0, "text": "Bec",
              "logprobs": _LOGPROBS},
    "done": {"agent": "a01", "pid": 12, "model": "small", "pool": "main", "version": 1,
             "member": 0, "reason": "eos", "text": "Because.", "prompt_tokens": 14,
             "reused_tokens": 0, "tokens": 3, "attach_ms": 1.5, "ttft_ms": 2.5,
             "tokens_per_s": 9.5, "private_bytes": 10**6, "peak_private_bytes": 10**6,
             "suffix_bytes": 4096, "token_ids": [5, 6, 7], "logprobs": _LOGPROBS},
    "snapshot": {"seq": "1", "agent_seq": "2", "token_seq": "3", "pid": 10,
                 "budget_bytes": 10**9, "held_bytes": 10**8, "evicted_pools": 0,
                 "fallbacks": ["a kernel failed"], "models": [OBJECTS["model_status"]],
                 "pools": [OBJECTS["pool_status"]], "agents": [OBJECTS["agent_status"]]},
    "error": {"code": "usage", "message": "there is no agent 'a09'", "value": "a09", "limit": "",
              "agent": "a01", "pid": 12, "member": 0, "job": "1"},
}

INNER = {
    "agent_hello": {"agent": "a01", "pid": 12, "model": "small", "attach_ms": 1.5, "kernel": "ref",
                    "version": 1, "pool": "main", "fallbacks": ["a kernel failed"],
                    "lanes": 15, "threads": 2},
    "prepare": {"pool": "main", "version": 1},
    "prepared": {"agent": "a01", "pool": "main", "version": 1},
    "start": {"pool": "main", "version": 1, "agent": "a01", "messages": _MESSAGES, **_SAMPLING},
    "encode": {"request": "1", "codec": "k4v4", "budget_left": "100", "holders": "pool main"},
    "turn": {"agent": "a01", "pool": "main", "version": 1, "tokens": 20, "inode": "77"},
    "stop": {},
    "attach": {"agent": "a01", "model": "small", "pool": "main", "version": 1,
               "fingerprint": "ab" * 16},
    "granted": {"model": "small", "pool": "main", "version": 1, "fingerprint": "ab" * 16,
                "spans": 1},
    "scores": {"rows": 2, "vocab": 49152},
    "writer_hello": {"pid": 11, "model": "small", "fallbacks": ["a kernel failed"]},
    "pack": {"path": "/models/small.gguf"},
    "image": {"fingerprint": "ab" * 16, "name": "Small 1M", "positions": 8192,
              "sampling": "greedy", "bytes": 10**8,
              "layers": 30, "kv_heads": 3, "head_dim": 64, "window": 512,
              "window_period": 6, "source": "packed", "notices": ["F32 becomes bf16"]},
    "have": {"fingerprint": "ab" * 16},
    "drop_job": {"job": "1"},
    "tokens": {"job": "1", "count": 9},
    "segment": {"job": "1", "codec": "k4v4", "tokens": 9, "bytes": 4096, "bits_per_element": 4.25,
                "seconds": 0.5, "precision": "f32", "layers": [OBJECTS["layer_stats"]]},
}

REPORTS = {
    "doctor": {"usable": True, "checks": [{"name": "kernels", "verdict": "ok", "found": "avx2",
                                           "advice": "", "code": "io"}]},
}

_ALL = {**REQUESTS, **ANSWERS, **INNER, **REPORTS}


def message(name, **changes):
    """The golden message of this type; a change to None leaves the field out."""
    fields = {"v": 1, "type": name, **_ALL[name], **changes}
    return {field: value for field, value in fields.items() if value is not None}


def messages():
    """One of every type, with the fields that every message may have."""
    return {name: message(name, id="r1", seq="7") for name in _ALL}
