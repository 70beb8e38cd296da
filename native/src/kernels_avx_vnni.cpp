// AVX-VNNI: 32 products of unsigned levels and signed weights in one instruction, exact.
#include "kernels_of.h"

namespace octavo {
namespace {

struct AvxVnniDot {
  static constexpr std::size_t kRows = 6;  // 12 sums, 2 weights and 1 row: all but one of the registers
  static constexpr std::size_t kColumns = 16;
  static constexpr std::size_t kRowsTogether = 1;
  static constexpr std::size_t kRun = 1;
  static constexpr std::uint8_t kZero = 128;
  static void begin() {}
  static void end() {}
  static constexpr std::size_t steps(std::size_t) { return 1; }

  // `columns` are 16 outputs of the panel: two vectors of eight.
  template <int kCount>
  [[gnu::noinline]] static void block(const std::uint8_t* a, std::size_t stride, const std::int8_t* columns,
                                      const std::int32_t* start, std::size_t groups, std::int32_t* out) {
    __m256i sums[kCount][2];
#pragma GCC unroll 6
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        sums[r][v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8 * v));
    const std::uint8_t* third[(kCount + 2) / 3];  // as in kernels_avx512_vnni.cpp
#pragma GCC unroll 2
    for (int i = 0; i < (kCount + 2) / 3; ++i) third[i] = a + 3 * i * stride;
#pragma GCC unroll 1
    for (std::size_t group = 0; group < groups; ++group) {
      const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns));
      const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns + 32));
      columns += kPanel * 4;
#pragma GCC unroll 6
      for (int r = 0; r < kCount; ++r) {
        std::int32_t four;
        std::memcpy(&four, third[r / 3] + (r % 3) * stride + group * 4, sizeof four);
        const __m256i levels = _mm256_set1_epi32(four);
        sums[r][0] = _mm256_dpbusd_avx_epi32(sums[r][0], levels, left);
        sums[r][1] = _mm256_dpbusd_avx_epi32(sums[r][1], levels, right);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * kPanel + 8 * v), sums[r][v]);
  }

  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
    sums_in_blocks<AvxVnniDot>(a, stride, rows, panel, start, groups, out, meanwhile);
  }

  // Twelve sums that wait for nothing but themselves: more than the instruction's latency needs.
  static std::uint64_t spin(std::uint64_t rounds) {
    constexpr int kSums = 12, kTimes = 64;
    __m256i sums[kSums] = {};
    const __m256i levels = _mm256_set1_epi8(3), weights = _mm256_set1_epi8(5);
    for (std::uint64_t round = 0; round < rounds * kTimes; ++round) {
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i) {
        sums[i] = _mm256_dpbusd_avx_epi32(sums[i], levels, weights);
        __asm__ volatile("" : "+x"(sums[i]));  // else the compiler adds up one product
      }
    }
    return rounds * kTimes * kSums * sizeof levels;
  }
};

}  // namespace

const Kernels kAvxVnniKernels = kernels_of<AvxVnniDot>("avx_vnni");

}  // namespace octavo
