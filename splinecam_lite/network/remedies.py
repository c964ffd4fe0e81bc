"""What to say of an operation that has no exact partition: what it is, and what to do instead."""

from splinecam_lite.network.smooth import FUNCTIONS

SMOOTH_ACTIVATION = "which is not piecewise linear, so no exact partition exists; use ReLU or LeakyReLU"
APPROXIMATE = ", or partition a piecewise-linear approximation of it: approximate={{'{name}': 1e-3}}"
SMOOTH_FUNCTION = "which is not piecewise linear, so no exact partition exists; leave it out"
NORMALISATION = (
    "which divides by a statistic of the sample and is not piecewise linear, so no exact partition exists; "
    "use BatchNorm in eval mode"
)
PRODUCT = (
    "which is not piecewise linear, so no exact partition exists; multiply by constants only, or add the "
    "values"
)
ORDER = (
    "which is piecewise linear, but not covered by the exact partition; use max pooling, amax, or maxima of "
    "two values"
)
INDICES = (
    "which jump from one place to another, so no exact partition exists; use the maximum itself, not where "
    "it is"
)
PADDING = (
    "which has a window of nothing but padding, whose maximum is minus infinity, so no exact partition "
    "exists; use less padding or dilation"
)
PROBABILITIES = (
    "which is not piecewise linear, so no exact partition exists; it does not change which class wins, so "
    "take the logits before it"
)

REASONS = {
    "GELU": ("gelu", SMOOTH_ACTIVATION),
    "SiLU": ("silu", SMOOTH_ACTIVATION),
    "Mish": ("mish", SMOOTH_ACTIVATION),
    "tanh": ("tanh", SMOOTH_ACTIVATION),
    "sigmoid": ("sigmoid", SMOOTH_ACTIVATION),
    "log-sigmoid": ("log_sigmoid", SMOOTH_ACTIVATION),
    "softplus": ("softplus", SMOOTH_ACTIVATION),
    "ELU, SELU or CELU": ("elu selu celu", SMOOTH_ACTIVATION),
    "Hardswish": ("hardswish", SMOOTH_ACTIVATION),
    "a sine": ("sin cos", SMOOTH_ACTIVATION),
    "GLU, a product of two values": ("glu", PRODUCT),
    "a recurrent layer": (
        "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        "which multiplies values or bends smoothly, so no exact partition exists; write its steps out with "
        "Linear and ReLU",
    ),
    "Embedding": (
        "embedding",
        "which looks whole numbers up and jumps between them, so no exact partition exists; take its vectors "
        "as the input",
    ),
    "a cast to whole numbers, as of an Embedding": (
        "_to_copy to",
        "which jumps, so no exact partition exists; leave it out, or take what is looked up as the input",
    ),
    "a norm": ("linalg_vector_norm norm", NORMALISATION),
    "LayerNorm": ("layer_norm native_layer_norm", NORMALISATION),
    "RMSNorm": ("rms_norm _fused_rms_norm", NORMALISATION),
    "GroupNorm": ("group_norm native_group_norm", NORMALISATION),
    "InstanceNorm without running statistics": (
        "instance_norm",
        NORMALISATION + ", or InstanceNorm with track_running_stats=True",
    ),
    "softmax": ("softmax _softmax log_softmax _log_softmax", PROBABILITIES),
    "attention": (
        "scaled_dot_product_attention",
        "which multiplies values and is not piecewise linear, so no exact partition exists; leave it out",
    ),
    "a sum with infinite numbers": (
        "add sub masked_fill",
        "which has no linear part, so no exact partition exists; mask with finite numbers",
    ),
    "a product of two values": ("mul matmul mm bmm addmm baddbmm einsum linear dot", PRODUCT),
    "a quotient of two values": ("div reciprocal", PRODUCT),
    "a power": ("pow square", PRODUCT),
    "max pooling": ("max_pool1d max_pool2d max_pool3d", PADDING),
    "the indices of a maximum or minimum": (
        """max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d max min argmax argmin""",
        INDICES,
    ),
    "an order statistic": ("topk sort msort median nanmedian kthvalue quantile cummax cummin", ORDER),
    "Hardshrink": (
        "hardshrink",
        "which jumps where it sets in, so no exact partition exists; use Softshrink, which is continuous",
    ),
    "a Threshold whose value is not its threshold": (
        "threshold",
        "and so has a jump there, so no exact partition exists; make both equal, or use ReLU",
    ),
    "a function with a jump": (
        "sign round floor ceil trunc frac heaviside",
        "which is not continuous, so no exact partition exists; use ReLU or LeakyReLU",
    ),
    "a comparison": (
        "gt ge lt le eq ne isnan isinf logical_not logical_and logical_or where",
        "and what it decides may jump, so no exact partition exists; write it with relu, clamp or maximum",
    ),
}
"""What an operation is called -> (names of the torch operators, the reason with its remedy)."""

REASON_OF = {
    operator: (title, reason) for title, (names, reason) in REASONS.items() for operator in names.split()
}


def why_refused(target: str, before: str | None) -> str:
    """Complete the sentence "layer 'act' is ...", for an op that the exact partition refuses.

    Parameters
    ----------
    target : str
        The torch operator, e.g. ``"aten.gelu.default"``.
    before : str or None
        Node that computes its input, as a place to stop.

    Examples
    --------
    >>> why_refused("aten.tanh.default", "linear_2")
    "tanh, which is not piecewise linear, so no exact partition exists; use ReLU or LeakyReLU, or partition a
    piecewise-linear approximation of it: approximate={'tanh': 1e-3}, or stop before it with
    output='linear_2'"
    """
    operator = target.split(".")[1] if "." in target else target
    title, reason = REASON_OF.get(operator, (f"the operation '{operator}'", SMOOTH_FUNCTION))
    if operator in FUNCTIONS:
        reason += APPROXIMATE.format(name=operator)
    stop = f", or stop before it with output='{before}'" if before else ""
    return f"{title}, {reason}{stop}"
