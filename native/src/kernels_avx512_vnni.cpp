// AVX-512 with VNNI: 64 products of unsigned levels and signed weights in one instruction, exact.
#include "kernels_of.h"

namespace octavo {
namespace {

struct Avx512VnniDot {
  static constexpr std::size_t kRows = 14;  // 28 sums, 2 weights and 1 row: all but one of the registers
  static constexpr std::size_t kColumns = 32;
  static constexpr std::size_t kRowsTogether = 1;
  static constexpr std::size_t kRun = 1;
  static constexpr std::uint8_t kZero = 128;
  static void begin() {}
  static void end() {}
  static constexpr std::size_t steps(std::size_t) { return 1; }

  // Not inlined, and the sums go through memory: around anything else, compilers spill registers in the loop.
  template <int kCount>
  [[gnu::noinline]] static void block(const std::uint8_t* a, std::size_t stride, const std::int8_t* panel,
                                      const std::int32_t* start, std::size_t groups, std::int32_t* out) {
    constexpr std::size_t kAhead = 8192;  // bytes of weights that are fetched ahead
    __m512i sums[kCount][2];
#pragma GCC unroll 14
    for (int r = 0; r < kCount; ++r) {
      sums[r][0] = _mm512_loadu_si512(start);
      sums[r][1] = _mm512_loadu_si512(start + 16);
    }
    // Every third row has a pointer; the others are reached from it by the stride, once and twice.
    const std::uint8_t* third[(kCount + 2) / 3];
#pragma GCC unroll 5
    for (int i = 0; i < (kCount + 2) / 3; ++i) third[i] = a + 3 * i * stride;
#pragma GCC unroll 1
    for (std::size_t group = 0; group < groups; ++group) {
      const __m512i left = _mm512_loadu_si512(panel);
      const __m512i right = _mm512_loadu_si512(panel + 64);
      _mm_prefetch(reinterpret_cast<const char*>(panel + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(panel + kAhead + 64), _MM_HINT_T0);
      panel += 128;
#pragma GCC unroll 14
      for (int r = 0; r < kCount; ++r) {
        std::int32_t four;
        std::memcpy(&four, third[r / 3] + (r % 3) * stride + group * 4, sizeof four);
        const __m512i levels = _mm512_set1_epi32(four);
        sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], levels, left);
        sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], levels, right);
      }
    }
#pragma GCC unroll 14
    for (int r = 0; r < kCount; ++r) {
      _mm512_storeu_si512(out + r * kPanel, sums[r][0]);
      _mm512_storeu_si512(out + r * kPanel + 16, sums[r][1]);
    }
  }

  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
    sums_in_blocks<Avx512VnniDot>(a, stride, rows, panel, start, groups, out, meanwhile);
  }

  // Sixteen sums that wait for nothing but themselves: more than the instruction's latency needs.
  static std::uint64_t spin(std::uint64_t rounds) {
    constexpr int kSums = 16, kTimes = 64;
    __m512i sums[kSums] = {};
    const __m512i levels = _mm512_set1_epi8(3), weights = _mm512_set1_epi8(5);
    for (std::uint64_t round = 0; round < rounds * kTimes; ++round) {
#pragma GCC unroll 16
      for (int i = 0; i < kSums; ++i) {
        sums[i] = _mm512_dpbusd_epi32(sums[i], levels, weights);
        __asm__ volatile("" : "+v"(sums[i]));  // else the compiler adds up one product
      }
    }
    return rounds * kTimes * kSums * sizeof levels;
  }
};

}  // namespace

const Kernels kAvx512VnniKernels = kernels_of<Avx512VnniDot>("avx512_vnni");

}  // namespace octavo
