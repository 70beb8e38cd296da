// What is done row by row: rounding to levels, LayerNorm, and the float layers of the head.
#pragma once

#include "elementary.h"
#include "kernels.h"

namespace octavo {
namespace {

constexpr float kMaxLevel = 127.0f;
constexpr float kSmallestScale = 1e-12f;  // a row of zeros still needs a scale to divide by

// Rounds a row of `width` floats, a multiple of the lanes; the padding of the multiplier makes level 0 of the rest.
template <class Dot>
inline void quantize_row(const float* x, std::size_t width, const Quantizer& next, std::uint8_t* levels,
                         float* row_scale) {
  const float* multiplier = next.multiplier.data();
  float inverse = 1.0f;
  if (next.per_token) {
    Floats largest{};
    for (std::size_t i = 0; i < width; i += kLanes)
      largest = larger(absolute(load(x + i) * load(multiplier + i)), largest);
    const float scale = largest_of(largest) * (1.0f / kMaxLevel);
    *row_scale = scale > kSmallestScale ? scale : kSmallestScale;
    inverse = 1.0f / *row_scale;
  }
  for (std::size_t i = 0; i < width; i += kLanes)
    store_levels(levels + i, load(x + i) * load(multiplier + i) * inverse, Dot::kZero);
}

template <class Dot>
void quantize(const FloatRows& x, const Quantizer& next, const LevelRows& out, Range rows) {
  for (std::size_t r = rows.begin; r < rows.end; ++r)
    quantize_row<Dot>(x.row(r), x.stride, next, out.row(r), next.per_token ? out.scales + r : nullptr);
}

// Padding has weight and bias 0, so that it stays 0.
inline void layer_norm_row(const LayerNorm& norm, float* x, std::size_t padded) {
  const std::size_t whole = norm.width / kLanes * kLanes;
  const float share = 1.0f / static_cast<float>(norm.width);
  Floats total{};
  for (std::size_t i = 0; i < padded; i += kLanes) total += load(x + i);
  const Floats mean = broadcast(sum_of(total) * share);
  Floats squares{};
  for (std::size_t i = 0; i < whole; i += kLanes) {
    const Floats centred = load(x + i) - mean;
    squares += centred * centred;
  }
  if (whole < norm.width) {
    const Floats centred = first_lanes(load(x + whole) - mean, norm.width - whole);
    squares += centred * centred;
  }
  const float deviation = 1.0f / __builtin_sqrtf(sum_of(squares) * share + norm.epsilon);
  for (std::size_t i = 0; i < padded; i += kLanes)
    store(x + i, (load(x + i) - mean) * (deviation * load(norm.weight.data() + i)) + load(norm.bias.data() + i));
}

template <class Dot>
void layer_norm(const LayerNorm& norm, const FloatRows& x, const Quantizer* next, const LevelRows& out, Range rows) {
  for (std::size_t r = rows.begin; r < rows.end; ++r) {
    layer_norm_row(norm, x.row(r), x.stride);
    if (next != nullptr)
      quantize_row<Dot>(x.row(r), x.stride, *next, out.row(r), next->per_token ? out.scales + r : nullptr);
  }
}

// out = in * weights + bias in float.
inline void dense(const Dense& layer, const FloatRows& in, const FloatRows& out, std::size_t rows) {
  for (std::size_t column = 0; column < layer.outputs; column += kPanel) {
    const float* panel = layer.weights.data() + column * layer.inputs;
    for (std::size_t r = 0; r < rows; ++r) {
      Floats sums[kPanel / kLanes];
      for (std::size_t v = 0; v < kPanel / kLanes; ++v) sums[v] = load(layer.bias.data() + column + v * kLanes);
      for (std::size_t k = 0; k < layer.inputs; ++k)
        for (std::size_t v = 0; v < kPanel / kLanes; ++v)
          sums[v] += in.row(r)[k] * load(panel + k * kPanel + v * kLanes);
      for (std::size_t v = 0; v < kPanel / kLanes; ++v) store(out.row(r) + column + v * kLanes, sums[v]);
    }
  }
}

// `count` is a multiple of the lanes.
inline void tanh_of(float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; i += kLanes) store(values + i, hyperbolic_tangent(load(values + i)));
}

}  // namespace
}  // namespace octavo
