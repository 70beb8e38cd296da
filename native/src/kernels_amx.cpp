// AMX: tiles of 16 rows by 64 bytes; one instruction multiplies 16 x 64 levels by 64 x 16 weights, exact in int32.
// What is float is done in AVX-512.
#include "kernels_of.h"

namespace octavo {
namespace {

// Eight tiles of 16 rows by 64 bytes, as the processor wants them described.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

constexpr TileConfig kTiles;

struct AmxDot {
  static constexpr std::size_t kRows = 32;
  static constexpr std::size_t kRun = 16;  // with 16 outputs, a tile of weights
  static constexpr std::uint8_t kZero = 0;
  static constexpr std::size_t kTileRow = 64;  // bytes: 64 levels, or 16 outputs of 4 weights
  static void begin() { _tile_loadconfig(&kTiles); }
  static void end() { _tile_release(); }
  static constexpr std::size_t steps(std::size_t groups) { return groups / 8; }

  // Always computes whole tiles: rows behind the last one are there, hold anything, and nobody looks at their sums.
  // Sums start at zero: levels are stored as they are. While the tiles multiply, `meanwhile` has the vectors: little at
  // a time, as no more than a few hundred instructions can be under way.
  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* /*start*/, std::size_t groups, std::int32_t* out, Work meanwhile) {
    // 0 1     sums of rows 0-15, of outputs 0-15 and 16-31
    // 2 3     sums of rows 16-31
    // 4, 5    levels of rows 0-15 and 16-31;  6, 7    weights of outputs 0-15 and 16-31
    const bool both = rows > 16;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::size_t group = 0; group < groups; group += 16) {
      const std::int8_t* weights = panel + group * kPanel * 4;
      // The next two tiles of weights: a tile load waits for all its rows.
#pragma GCC unroll 32
      for (std::size_t row = 0; row < 32; ++row)
        _mm_prefetch(reinterpret_cast<const char*>(weights + (32 + row) * kTileRow), _MM_HINT_T0);
      _tile_loadd(4, a + group * 4, stride);
      _tile_loadd(6, weights, kTileRow);
      _tile_loadd(7, weights + 16 * kTileRow, kTileRow);
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      meanwhile();
      if (both) {
        _tile_loadd(5, a + 16 * stride + group * 4, stride);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
      meanwhile();
    }
    constexpr std::size_t kRowBytes = kPanel * sizeof *out;
    _tile_stored(0, out, kRowBytes);
    _tile_stored(1, out + 16, kRowBytes);
    if (both) {
      _tile_stored(2, out + 16 * kPanel, kRowBytes);
      _tile_stored(3, out + 16 * kPanel + 16, kRowBytes);
    }
  }

  // Four tiles of sums in turn, of zeros.
  static std::uint64_t spin(std::uint64_t rounds) {
    constexpr std::uint64_t kTimes = 64, kSums = 4, kProducts = 16 * 16 * 64;
    begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (std::uint64_t round = 0; round < rounds * kTimes; ++round) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
    end();
    return rounds * kTimes * kSums * kProducts;
  }
};

}  // namespace

const Kernels kAmxKernels = kernels_of<AmxDot>("amx");

}  // namespace octavo
