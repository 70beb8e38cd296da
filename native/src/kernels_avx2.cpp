// AVX2 without VNNI: pairs of products are added in 16 bits, which must not saturate.
#include "kernels_of.h"

namespace octavo {
namespace {

// vpmaddubsw multiplies unsigned by signed bytes. With |level| and sign(level) * weight, a pair is at most
// 2 * 128 * 127 = 32512, below 2^15: exact, as weights leave -128 unused.
struct Avx2Dot {
  static constexpr std::size_t kRows = 4;
  static constexpr std::size_t kColumns = 16;
  static constexpr std::size_t kRowsTogether = 1;
  static constexpr std::size_t kRun = 1;
  static constexpr std::uint8_t kZero = 0;
  static void begin() {}
  static void end() {}
  static constexpr std::size_t steps(std::size_t) { return 1; }
  static std::uint64_t spin(std::uint64_t rounds) { return spin_sums<Avx2Dot>(rounds); }

  // `columns` are 16 outputs of the panel: two vectors of eight.
  template <int kCount>
  [[gnu::noinline]] static void block(const std::uint8_t* a, std::size_t stride, const std::int8_t* columns,
                                      const std::int32_t* start, std::size_t groups, std::int32_t* out) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[kCount][2];
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        sums[r][v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8 * v));
#pragma GCC unroll 1
    for (std::size_t group = 0; group < groups; ++group) {
      const __m256i weights[2] = {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns)),
                                  _mm256_loadu_si256(reinterpret_cast<const __m256i*>(columns + 32))};
      columns += kPanel * 4;
#pragma GCC unroll 4
      for (int r = 0; r < kCount; ++r) {
        std::int32_t four;
        std::memcpy(&four, a + r * stride + group * 4, sizeof four);
        const __m256i levels = _mm256_set1_epi32(four);
        const __m256i magnitudes = _mm256_abs_epi8(levels);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(weights[v], levels));
          sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(pairs, ones));
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * kPanel + 8 * v), sums[r][v]);
  }

  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
    sums_in_blocks<Avx2Dot>(a, stride, rows, panel, start, groups, out, meanwhile);
  }
};

}  // namespace

const Kernels kAvx2Kernels = kernels_of<Avx2Dot>("avx2");

}  // namespace octavo
