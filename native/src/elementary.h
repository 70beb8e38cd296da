// Elementary functions on vectors: exponential, hyperbolic tangent, and the activations of feed-forward layers.
#pragma once

#include "model.h"
#include "simd.h"

namespace octavo {
namespace {

// Relative error below 2e-7 from -87 to 88, and clamped there.
inline Floats exponential(Floats x) {
  x = clamped(x, -87.0f, 88.0f);
  const Ints power = rounded(x * 1.44269504f);
  const Floats n = floats_from_ints(power);
  const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts: the first product is exact
  Floats y = broadcast(1.9875691500e-4f);
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  return y * floats_of_bits((power + 127) << 23);
}

inline Floats hyperbolic_tangent(Floats x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

// x * (1/2 + P(x)), with the odd polynomial P fitted to the normal distribution (erf form) or to its tanh form, least
// largest error of the product. Within 1e-4 of the exact function everywhere.
struct GeluFit {
  float limit;  // beyond it P is constant
  float coefficients[9];
};

constexpr GeluFit kGelu = {
    4.5f,
    {0.3987075388f, -0.06597537547f, 0.009579489939f, -0.001035911730f, 8.115483776e-05f, -4.426589840e-06f,
     1.577533197e-07f, -3.276129812e-09f, 2.990810377e-11f}};
constexpr GeluFit kGeluTanh = {
    4.25f,
    {0.3987842500f, -0.06644583493f, 0.009899906814f, -0.001127030817f, 9.518071602e-05f, -5.691834758e-06f,
     2.246490567e-07f, -5.195484487e-09f, 5.297196362e-11f}};

inline Floats gelu(Floats x, const GeluFit& fit) {
  const Floats t = limited(x, fit.limit);
  const Floats square = t * t;
  Floats p = broadcast(fit.coefficients[8]);
#pragma GCC unroll 8
  for (int i = 7; i >= 0; --i) p = p * square + fit.coefficients[i];
  return x * (p * t + 0.5f);
}

template <Activation kind>
inline Floats activated(Floats x) {
  if constexpr (kind == Activation::gelu) return gelu(x, kGelu);
  if constexpr (kind == Activation::gelu_tanh) return gelu(x, kGeluTanh);
  if constexpr (kind == Activation::relu) return larger(Floats{}, x);  // this order keeps a NaN
  if constexpr (kind == Activation::tanh) return hyperbolic_tangent(x);
}

}  // namespace
}  // namespace octavo
