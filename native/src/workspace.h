// Everything that a call writes before its answer. Grown when a batch is larger than those before, never shrunk.
#pragma once

#include <vector>

#include "kernels.h"

namespace octavo {

// Rows of levels with room for their scales and for what kernels read behind the last row.
struct LevelBuffer {
  Array<std::uint8_t> levels;
  Array<float> scales;

  void need(std::size_t rows, std::size_t stride) {
    levels.need((rows + kSpareRows) * stride);
    scales.need(rows);
  }
  LevelRows rows(std::size_t stride, bool per_token) {
    return {levels.data(), stride, per_token ? scales.data() : nullptr};
  }
};

// What one thread needs for the rows, or the head of a sequence, that it is at.
struct ThreadScratch {
  LevelBuffer inner;          // (chunk, intermediate)
  Array<float> inner_floats;  // (chunk, intermediate), where scales are told for each token
  Array<float> attention;
};

struct Workspace {
  Array<float> states;   // (tokens, hidden)
  Array<float> qkv;      // (tokens, 3 * hidden)
  Array<float> context;  // (tokens, hidden)
  LevelBuffer levels;    // (tokens, hidden)
  // The tokens that are read, alone: of the last layer, and of the head.
  Array<float> read_states;  // (reads, hidden)
  Array<float> read_query;   // (reads, hidden)
  Array<float> head_states;  // (reads, hidden)
  Array<float> head_output;  // (reads, width)
  LevelBuffer read_levels;
  std::vector<ThreadScratch> threads;
};

}  // namespace octavo
