"""What to say of an operation that has no exact partition: what it is, and what to do instead."""

SMOOTH_ACTIVATION = "which is not piecewise linear, so no exact partition exists; use ReLU or LeakyReLU"
SMOOTH_FUNCTION = "which is not piecewise linear, so no exact partition exists; leave it out"
NORMALISATION = (
    "which divides by a statistic of the sample and is not piecewise linear, so no exact partition exists; "
    "use BatchNorm in eval mode"
)
PRODUCT = (
    "which is not piecewise linear, so no exact partition exists; multiply by constants only, or add the "
    "values"
)
MAXIMUM = (
    "which is piecewise linear, but not covered by the exact partition; use average pooling or a strided "
    "convolution"
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
    "GLU, a product of two values": ("glu", SMOOTH_ACTIVATION),
    "LayerNorm": ("layer_norm native_layer_norm", NORMALISATION),
    "RMSNorm": ("rms_norm _fused_rms_norm", NORMALISATION),
    "GroupNorm": ("group_norm native_group_norm", NORMALISATION),
    "InstanceNorm": ("instance_norm", NORMALISATION),
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
    "max pooling": (
        "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices adaptive_max_pool2d",
        MAXIMUM,
    ),
    "a maximum or minimum of several values": ("max amax maximum min amin minimum topk sort", MAXIMUM),
    "a function with a jump": (
        "hardshrink threshold sign round floor ceil heaviside",
        "which is not continuous, so no exact partition exists; use ReLU or LeakyReLU",
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
    "tanh, which is not piecewise linear, so no exact partition exists; use ReLU or LeakyReLU, or stop before
    it with output='linear_2'"
    """
    operator = target.split(".")[1] if "." in target else target
    title, reason = REASON_OF.get(operator, (f"the operation '{operator}'", SMOOTH_FUNCTION))
    stop = f", or stop before it with output='{before}'" if before else ""
    return f"{title}, {reason}{stop}"
