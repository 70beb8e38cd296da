// Vectors as wide as the file that includes this is compiled for. Most of it is the compilers' own vector arithmetic
// (GCC and Clang), so that all that is float is written once for every instruction set.
//
// Whatever kernels_<isa>.cpp includes stands in an unnamed namespace: each instruction set needs a copy of its own. A
// copy that the linker shared could hold instructions that the machine at hand does not know. For the same reason no
// kernel uses functions of the standard library, but for those that are macros or built into the compiler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace octavo {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));

inline Floats load(const float* from) {
  Floats x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

inline Ints load(const std::int32_t* from) {
  Ints x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }

inline Floats broadcast(float x) { return x - Floats{}; }

inline Floats floats_from_ints(Ints x) { return __builtin_convertvector(x, Floats); }

inline Floats floats_of_bits(Ints x) {
  Floats y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

inline Ints bits_of_floats(Floats x) {
  Ints y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

inline Floats absolute(Floats x) { return floats_of_bits(bits_of_floats(x) & 0x7fffffff); }

// Of a NaN and `b` both return `b`.
inline Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

inline Floats smaller(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

inline Floats clamped(Floats x, float low, float high) {
  return smaller(larger(x, broadcast(low)), broadcast(high));
}

// The larger of the magnitude of `a` and of `b`, which is not negative. Of a NaN and `b` it is `b`.
inline Floats larger_magnitude(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_range_ps((__m512)a, (__m512)b, 0x0b);  // the larger magnitude, no sign
#else
  return larger(absolute(a), b);
#endif
}

// x held between -limit and limit.
inline Floats limited(Floats x, float limit) {
#if defined(__AVX512F__)
  return (Floats)_mm512_range_ps((__m512)x, (__m512)broadcast(limit), 0x02);  // the smaller magnitude, the sign of x
#else
  return clamped(x, -limit, limit);
#endif
}

inline float sum_of(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#else
  float lanes[kLanes];
  store(lanes, x);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
#endif
}

inline float largest_of(Floats x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)x);
#else
  float lanes[kLanes];
  store(lanes, x);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  return lanes[0];
#endif
}

// x with the lanes from `count` on set to `rest`.
inline Floats first_lanes(Floats x, std::size_t count, float rest) {
  Ints lane;
  for (std::size_t i = 0; i < kLanes; ++i) lane[i] = static_cast<std::int32_t>(i);
  return lane < static_cast<std::int32_t>(count) ? x : broadcast(rest);
}

// Lanes of two vectors by number: those of `b` follow those of `a`.
inline Floats picked(Floats a, Floats b, Ints lanes) {
#if defined(__clang__)
  Floats x;
  for (std::size_t i = 0; i < kLanes; ++i) {
    const std::size_t lane = static_cast<std::size_t>(lanes[i]);
    x[i] = lane < kLanes ? a[lane] : b[lane - kLanes];
  }
  return x;
#else
  return __builtin_shuffle(a, b, lanes);
#endif
}

// 2^23 * 1.5: adding it leaves no room for fractions, so the sum is rounded to a whole number, half to even.
constexpr float kRounder = 12582912.0f;

inline Ints rounded(Floats x) { return bits_of_floats(x + kRounder) - bits_of_floats(broadcast(kRounder)); }

// Rounds to int8 levels, half to even, and stores them with `zero` (0 or 128) added.
inline void store_levels(std::uint8_t* to, Floats x, std::uint8_t zero) {
#if defined(__AVX512F__)
  // The conversion saturates, but what is too large for int32 has to be held back before.
  const __m512i levels = _mm512_cvtps_epi32((__m512)smaller(x, broadcast(127.0f)));
  const __m128i bytes = _mm512_cvtsepi32_epi8(levels);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(zero))));
#else
  const Ints levels = rounded(clamped(x, -128.0f, 127.0f)) + zero;
  const Bytes bytes = __builtin_convertvector(levels & 0xff, Bytes);
  std::memcpy(to, &bytes, sizeof bytes);
#endif
}

// Stores the first `count` lanes.
inline void store_first(float* to, Floats x, std::size_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)x);
#else
  std::memcpy(to, &x, count * sizeof(float));
#endif
}

}  // namespace
}  // namespace octavo
