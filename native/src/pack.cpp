#include "pack.h"

#include <algorithm>

namespace octavo {

namespace {

template <class T>
Array<T> padded_copy(const std::vector<T>& values, std::size_t multiple) {
  Array<T> copy(round_up(values.size(), multiple));
  std::copy(values.begin(), values.end(), copy.begin());
  return copy;
}

Quantizer quantizer_of(const LinearSource& source) {
  Quantizer quantizer;
  quantizer.per_token = !source.input_scale;
  quantizer.multiplier = Array<float>(round_up(source.inputs, kPanel));
  const float scale = source.input_scale.value_or(1.0f);
  for (std::size_t k = 0; k < source.inputs; ++k)
    quantizer.multiplier[k] = (source.input_factor.empty() ? 1.0f : source.input_factor[k]) / scale;
  return quantizer;
}

constexpr std::size_t kHalf = kPanel / 2;

// Where a weight lies, in bytes: see kernels.h.
std::size_t place_of(std::size_t k, std::size_t n, const Linear& linear, std::size_t run) {
  const std::size_t group = k / 4, half = n % kPanel / kHalf;
  const std::size_t before = n / kPanel * linear.groups + group / run * run;  // groups of the whole panel
  return ((before * 2 + half * run + group % run) * kHalf + n % kHalf) * 4 + k % 4;
}

}  // namespace

std::size_t packed_bytes(const LinearSource& source) {
  return round_up(source.inputs, kInputAlign) * round_up(source.outputs, kPanel);
}

Linear packed(const LinearSource& source, const Kernels& kernels, std::int8_t* weights) {
  Linear linear;
  linear.inputs = source.inputs;
  linear.outputs = source.outputs;
  linear.groups = round_up(source.inputs, kInputAlign) / 4;
  linear.panels = round_up(source.outputs, kPanel) / kPanel;
  linear.weights = weights;
  linear.start = Array<std::int32_t>(linear.padded_outputs());
  linear.scale = padded_copy(source.weight_scale, kPanel);
  linear.bias = padded_copy(source.bias, kPanel);
  linear.quantizer = quantizer_of(source);
  for (std::size_t k = 0; k < source.inputs; ++k) {
    for (std::size_t n = 0; n < source.outputs; ++n) {
      const std::int8_t weight = source.weight[k * source.outputs + n];
      weights[place_of(k, n, linear, kernels.run)] = weight;
      linear.start[n] -= kernels.zero * weight;
    }
  }
  if (source.input_scale)
    for (float& scale : linear.scale) scale *= *source.input_scale;
  return linear;
}

LayerNorm packed(const LayerNormSource& source) {
  return {padded_copy(source.weight, kPanel), padded_copy(source.bias, kPanel), source.epsilon, source.weight.size()};
}

Dense packed(const DenseSource& source) {
  Dense dense;
  dense.inputs = source.inputs;
  dense.outputs = source.outputs;
  dense.weights = Array<float>(round_up(source.outputs, kPanel) * source.inputs);
  dense.bias = padded_copy(source.bias, kPanel);
  for (std::size_t n = 0; n < source.outputs; ++n)
    for (std::size_t k = 0; k < source.inputs; ++k)
      dense.weights[(n / kPanel * source.inputs + k) * kPanel + n % kPanel] = source.weight[n * source.inputs + k];
  return dense;
}

}  // namespace octavo
