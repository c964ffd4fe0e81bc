"""A program evaluated without rounding.

integers.py          integers in limbs: small whole numbers in float64 tensors
integer_ops.py       affine ops of a program on them
integer_program.py   a program's constants as such integers
walk.py              one pass through the program, with bounds where limbs are left out
forms.py             preactivations and outputs as affine forms of the chart: `ExactProgram`
restricted.py        the network restricted to regions that differ in few bits
rounding.py          integers as unevaluated sums of two float64
"""
