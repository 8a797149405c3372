"""Options of other programs that change nothing here."""

from .errors import WrongValue, shown
from .options import is_number

# Options of OpenAI's, llama-cpp-python's and vLLM's requests that change no text, whatever they are
WITHOUT_EFFECT = frozenset(
    "model user metadata store service_tier parallel_tool_calls safety_identifier prompt_cache_key "
    "prompt_cache_retention stream_options cache_prompt prediction request_id cache_salt "
    "dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers".split()
)
# ... and those that change none at these values, which are their defaults there
SAME_AS_NONE = {
    **dict.fromkeys(("n", "best_of", "tfs_z"), (1,)),
    **dict.fromkeys(("repetition_penalty", "length_penalty"), (1,)),
    **dict.fromkeys(("mirostat_mode", "min_tokens", "dry_multiplier"), (0,)),
    **dict.fromkeys(("stream", "echo", "use_beam_search"), (False,)),
    **dict.fromkeys(("skip_special_tokens", "spaces_between_special_tokens"), (True,)),
    "functions": ([],),
    **dict.fromkeys(("bad_words", "stop_token_ids", "image_data", "lora", "documents"), ([],)),
    **dict.fromkeys(("include_stop_str_in_output", "continue_final_message"), (False,)),
    **dict.fromkeys(("return_tokens_as_token_ids", "return_token_ids", "return_tokens"), (False,)),
    **dict.fromkeys(("timings_per_token", "return_progress", "post_sampling_probs"), (False,)),
    **dict.fromkeys(("priority", "n_probs", "min_keep", "n_keep", "n_indent"), (0,)),
    **dict.fromkeys(("t_max_predict_ms", "dynatemp_range"), (0,)),
    **dict.fromkeys(("dynatemp_exponent", "n_cmpl"), (1,)),
    "add_generation_prompt": (True,),
    "chat_template_kwargs": ({},),
    "id_slot": (-1,),
    "reasoning_effort": ("none", "medium"),
    **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
    **dict.fromkeys(("suffix", "template", "system"), ("",)),
    **dict.fromkeys(("images", "context", "include"), ([],)),
    "truncation": ("disabled",),
    "background": (False,),
    "reasoning": ({},),
    "thinking": ({"type": "disabled"},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
}


def changes_nothing(name, value):
    """Whether an option that is no Writer's can be left out: it is None, or without effect. Raises
    ModelError, by name, if it would have one."""
    if value is None or name in WITHOUT_EFFECT:
        return True
    same = SAME_AS_NONE.get(name, ())
    alike = lambda usual: is_number(usual) and is_number(value) or type(usual) is type(value)
    if same and not any(alike(usual) and value == usual for usual in same):
        wants = " or ".join(map(repr, same))
        raise WrongValue(
            f"{name} is {shown(value)}, which cannot be done here; expected {wants}; leave it out"
        )
    return bool(same)
