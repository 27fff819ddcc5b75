"""Bytes that a forward and backward pass needs beside the parameters.

With T tokens, hidden size h, width k of a layer's keys, intermediate size i and b bytes an element
(transformers' layers run op by op; attention keeps no T x T matrix; what layers keep was compared
with autograd's saved tensors of Qwen2, Qwen3 and Llama layers, which take 0.83 to 1.02 of it):

- a layer keeps for its backward pass: two norms in float32 (2 x (8 + b) h T), queries, keys,
  values and attention's output before and after the rotary embedding (b (4h + 4k) T), and the
  MLP's four intermediates (4 b i T);
- its backward pass holds gradients of the MLP's and the attention's inputs: b (3i + 4h) T;
- gradient checkpointing keeps each layer's input (b h T) and computes one layer at a time again;
- the head holds logits of one chunk of tokens only, three float32 copies in the backward pass and
  two without gradients, the output layer's gradient, unless that is frozen, in float32 and one
  product in b bytes, and hidden states with their gradient (2 b h T). It is done before the
  layers' backward pass starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from verl.trainer.check.model_shape import ModelShape

_FLOAT32 = 4


@dataclass(frozen=True)
class ForwardPass:
    """One pass through a model.

    Attributes:
        tokens: in the pass, T.
        element: bytes of an element, b.
        head_chunk: tokens whose logits exist at a time; 0 for a critic, whose head is nothing.
    """

    shape: ModelShape
    tokens: int
    element: int
    head_chunk: int

    def for_update(self, checkpointing: bool, head_trained: bool = True) -> float:
        """Peak of forward and backward pass together."""
        kept, in_layer = self._kept_by_layer(), self._layer_gradients()
        if checkpointing:
            in_layer += kept
            kept = float(self.element * self.shape.hidden * self.tokens)
        head = self._head(copies=3, backward=True, trained=head_trained)
        return self.shape.layers * kept + max(in_layer, head)

    def for_scoring(self) -> float:
        """Peak without gradients."""
        return max(self._kept_by_layer(), self._head(copies=2, backward=False, trained=False))

    def _kept_by_layer(self) -> float:
        shape, b = self.shape, self.element
        h, k, i = shape.hidden, shape.key_value, shape.intermediate
        return float(self.tokens * (2 * (8 + b) * h + b * (4 * h + 4 * k) + 4 * b * i))

    def _layer_gradients(self) -> float:
        shape = self.shape
        return float(self.tokens * self.element * (3 * shape.intermediate + 4 * shape.hidden))

    def _head(self, copies: int, backward: bool, trained: bool) -> float:
        if self.head_chunk == 0:
            return 0.0
        vocabulary, hidden = self.shape.vocabulary, self.shape.hidden
        logits = min(self.tokens, self.head_chunk) * vocabulary
        states = self.element * hidden * self.tokens * (2 if backward else 1)
        gradient = (_FLOAT32 + self.element) * vocabulary * hidden if trained else 0
        return float(logits * (copies * _FLOAT32 + self.element) + gradient + states)
