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
  const std::size_t width = next.multiplier.size();
  for (std::size_t i = 0; i < width; i += kLanes)
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
          largest[v] = larger_magnitude(load(row + i + v * kLanes) * load(multiplier + i + v * kLanes), largest[v]);
      for (std::size_t v = 1; v < kPanel / kLanes; ++v) largest[0] = larger(largest[0], largest[v]);
      out.scales[r] = scale_of_row(largest_of(largest[0]));
      inverse = 1.0f / out.scales[r];
    }
    quantize_row<Dot>(row, next, inverse, out.row(r));
  }
}

constexpr std::size_t kNormRows = 4;  // normalised side by side, so that none waits for another's sums

// Normalises kRows rows in place, and rounds them where there is a next layer. Rows are padded with zeros to whole
// panels; weight and bias of the padding are 0, so that it stays 0.
template <class Dot, std::size_t kRows>
inline void normalise(const LayerNorm& norm, const FloatRows& x, const Quantizer* next, const LevelRows& out,
                      std::size_t first) {
  const std::size_t width = norm.width, padded = norm.weight.size();
  const float share = 1.0f / static_cast<float>(width);
  float* rows[kRows];
  Floats sums[kRows] = {}, squares[kRows] = {}, mean[kRows], deviation[kRows];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kRows; ++r) rows[r] = x.row(first + r);
  for (std::size_t i = 0; i < padded; i += kLanes)
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRows; ++r) sums[r] += load(rows[r] + i);
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kRows; ++r) mean[r] = broadcast(sum_of(sums[r]) * share);
  for (std::size_t i = 0; i < width; i += kLanes)
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRows; ++r) {
      const Floats centred = load(rows[r] + i) - mean[r];
      const Floats square = centred * centred;
      squares[r] += i + kLanes <= width ? square : first_lanes(square, width - i, 0.0f);
    }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kRows; ++r)
    deviation[r] = broadcast(1.0f / __builtin_sqrtf(sum_of(squares[r]) * share + norm.epsilon));

  const float *weight = norm.weight.data(), *bias = norm.bias.data();
  // Calls use(row, place, values), row from 0 on.
  const auto for_normalised = [=](auto use) {
    for (std::size_t i = 0; i < padded; i += kLanes)
#pragma GCC unroll 4
      for (std::size_t r = 0; r < kRows; ++r) {
        const Floats y = (load(rows[r] + i) - mean[r]) * (deviation[r] * load(weight + i)) + load(bias + i);
        store(rows[r] + i, y);
        use(r, i, y);
      }
  };
  if (next == nullptr) return for_normalised([](std::size_t, std::size_t, Floats) {});
  const float* multiplier = next->multiplier.data();
  if (!next->per_token)
    return for_normalised([out, first, multiplier](std::size_t r, std::size_t i, Floats y) {
      store_levels(out.row(first + r) + i, y * load(multiplier + i), Dot::kZero);
    });
  Floats largest[kRows] = {};
  for_normalised([&largest, multiplier](std::size_t r, std::size_t i, Floats y) {
    largest[r] = larger_magnitude(y * load(multiplier + i), largest[r]);
  });
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kRows; ++r) {
    const float scale = scale_of_row(largest_of(largest[r]));
    out.scales[first + r] = scale;
    quantize_row<Dot>(rows[r], *next, 1.0f / scale, out.row(first + r));
  }
}

template <class Dot>
void layer_norm(const LayerNorm& norm, const FloatRows& x, const Quantizer* next, const LevelRows& out, Range rows) {
  std::size_t r = rows.begin;
  for (; r + kNormRows <= rows.end; r += kNormRows) normalise<Dot, kNormRows>(norm, x, next, out, r);
  for (; r < rows.end; ++r) normalise<Dot, 1>(norm, x, next, out, r);
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
