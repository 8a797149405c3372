"""Where families keep the matrices of their experts."""

GPT_OSS = "w1= w2= w3= router=mlp.router"
EXPERTS = "w1= w2= w3= router=mlp.gate e1=mlp.experts.{}.gate_proj e2=mlp.experts.{}.down_proj e3=mlp.experts.{}.up_proj"
MIXTRAL = "w1= w2= w3= router=block_sparse_moe.gate e1=block_sparse_moe.experts.{}.w1 e2=block_sparse_moe.experts.{}.w2 "
MIXTRAL += "e3=block_sparse_moe.experts.{}.w3"
SHARED = (
    "w1=mlp.shared_expert.gate_proj w2=mlp.shared_expert.down_proj w3=mlp.shared_expert.up_proj "
)
SHARED += "shared_gate=mlp.shared_expert_gate"
GRANITE_EXPERTS = (
    "w1= w2= w3= router=block_sparse_moe.router.layer e13=block_sparse_moe.input_linear "
)
GRANITE_EXPERTS += "e2=block_sparse_moe.output_linear"
FUSED_EXPERTS = {
    "e13": "model.layers.{}.mlp.experts.gate_up_proj",
    "e2s": "model.layers.{}.mlp.experts.down_proj",
}
