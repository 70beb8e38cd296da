// What is done row by row: rounding to levels, LayerNorm, and the float layers of the head.
#pragma once

#include "elementary.h"
#include "kernels.h"

namespace octavo {
namespace {

constexpr float kMaxLevel = 127.0f;
constexpr float kSmallestScale = 1e-12f;  // a row of zeros still needs a scale to divide by

// Returns the scale of a row whose largest magnitude is given.
inline float scale_of_row(float largest) {
  const float scale = largest * (1.0f / kMaxLevel);
  return scale > kSmallestScale ? scale : kSmallestScale;
}

// Rounds a row; zeros in its padding become level 0.
template <class Dot>
inline void quantize_row(const float* x, const Quantizer& next, float inverse_scale, std::uint8_t* levels) {
  const float* multiplier = next.multiplier.data();
  for (std::size_t i = 0; i < next.multiplier.size(); i += kLanes)
    store_levels(levels + i, load(x + i) * load(multiplier + i) * inverse_scale, Dot::kZero);
}

template <class Dot>
void quantize(const FloatRows& x, const Quantizer& next, const LevelRows& out, Range rows) {
  const float* multiplier = next.multiplier.data();
  for (std::size_t r = rows.begin; r < rows.end; ++r) {
    const float* row = x.row(r);
    float inverse = 1.0f;
    if (next.per_token) {
      Floats largest[kPanel / kLanes] = {};
      for (std::size_t i = 0; i < next.multiplier.size(); i += kPanel)
        for (std::size_t v = 0; v < kPanel / kLanes; ++v)
          largest[v] = larger(absolute(load(row + i + v * kLanes) * load(multiplier + i + v * kLanes)), largest[v]);
      for (std::size_t v = 1; v < kPanel / kLanes; ++v) largest[0] = larger(largest[0], largest[v]);
      out.scales[r] = scale_of_row(largest_of(largest[0]));
      inverse = 1.0f / out.scales[r];
    }
    quantize_row<Dot>(row, next, inverse, out.row(r));
  }
}

// Adds up term(x, place) over a row, a panel at a time, so that no sum waits for the one before.
template <class Term>
inline float sum_over_row(const float* x, std::size_t padded, Term term) {
  Floats sums[kPanel / kLanes] = {};
  for (std::size_t i = 0; i < padded; i += kPanel)
    for (std::size_t v = 0; v < kPanel / kLanes; ++v) sums[v] += term(load(x + i + v * kLanes), i + v * kLanes);
  for (std::size_t v = 1; v < kPanel / kLanes; ++v) sums[0] += sums[v];
  return sum_of(sums[0]);
}

// Calls use(place, values) for the normalised row, a vector at a time. The row is padded with zeros to whole panels;
// weight and bias of the padding are 0, so that it stays 0.
template <class Use>
inline void normalised(const LayerNorm& norm, const float* x, std::size_t padded, Use use) {
  const float share = 1.0f / static_cast<float>(norm.width);
  const Floats mean = broadcast(sum_over_row(x, padded, [](Floats v, std::size_t) { return v; }) * share);
  const float squares = sum_over_row(x, padded, [&](Floats v, std::size_t place) {
    const Floats centred = v - mean;
    if (place + kLanes <= norm.width) return centred * centred;
    return place < norm.width ? first_lanes(centred * centred, norm.width - place, 0.0f) : Floats{};
  });
  const float deviation = 1.0f / __builtin_sqrtf(squares * share + norm.epsilon);
  for (std::size_t i = 0; i < padded; i += kLanes)
    use(i, (load(x + i) - mean) * (deviation * load(norm.weight.data() + i)) + load(norm.bias.data() + i));
}

template <class Dot>
void layer_norm(const LayerNorm& norm, const FloatRows& x, const Quantizer* next, const LevelRows& out, Range rows) {
  const std::size_t padded = norm.weight.size();
  for (std::size_t r = rows.begin; r < rows.end; ++r) {
    float* row = x.row(r);
    if (next == nullptr) {
      normalised(norm, row, padded, [&](std::size_t i, Floats y) { store(row + i, y); });
    } else if (next->per_token) {
      Floats largest{};
      normalised(norm, row, padded, [&](std::size_t i, Floats y) {
        store(row + i, y);
        largest = larger(absolute(y * load(next->multiplier.data() + i)), largest);
      });
      out.scales[r] = scale_of_row(largest_of(largest));
      quantize_row<Dot>(row, *next, 1.0f / out.scales[r], out.row(r));
    } else {
      std::uint8_t* levels = out.row(r);
      normalised(norm, row, padded, [&](std::size_t i, Floats y) {
        store(row + i, y);
        store_levels(levels + i, y * load(next->multiplier.data() + i), Dot::kZero);
      });
    }
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
