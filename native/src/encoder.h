// The encoder with its head: packed weights, and the way of a batch through them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels.h"
#include "model.h"
#include "thread_pool.h"
#include "workspace.h"

namespace octavo {

// Sequences laid end to end. Nothing in it is trusted.
struct Batch {
  const std::int64_t* ids = nullptr;  // (tokens,)
  std::size_t tokens = 0;
  const std::int64_t* offsets = nullptr;  // (sequences + 1,)
  std::size_t sequences = 0;
  const std::int64_t* segments = nullptr;  // (tokens,), or null for 0 everywhere
  const std::int64_t* reads = nullptr;     // (read_count,), or null for the first token of each sequence
  std::size_t read_count = 0;
};

class Encoder {
 public:
  // Throws std::invalid_argument where the model's tensors do not fit together.
  Encoder(const ModelSource& source, const Kernels& kernels, std::size_t threads);
  ~Encoder();

  const Kernels& kernels() const { return kernels_; }
  std::size_t threads() const { return pool_.threads(); }
  std::size_t width() const { return width_; }

  // Throws std::invalid_argument, saying which value of the batch is out of range.
  void check(const Batch& batch) const;

  // Rows of output for a batch.
  std::size_t outputs(const Batch& batch) const;

  // Writes (outputs, width) floats. The batch has been checked. Thread-safe: with one thread, callers run side by side;
  // with more, they take turns, as each of them uses all threads.
  void run(const Batch& batch, float* output);

 private:
  struct Layer {
    std::vector<Linear> qkv;
    Linear attention_output;
    LayerNorm attention_norm;
    Linear ffn1;
    Linear ffn2;
    LayerNorm ffn_norm;
  };
  class Pass;

  std::unique_ptr<Workspace> taken_workspace();
  void give_back(std::unique_ptr<Workspace> workspace);

  const Kernels& kernels_;
  std::size_t hidden_, heads_, width_;
  Activation activation_, dense_activation_;
  Reads reads_;
  bool normalize_;
  std::int64_t position_offset_, segment_stride_, max_length_, vocabulary_, positions_;
  Array<float> words_;           // (vocabulary, padded hidden)
  Array<float> position_table_;  // (positions, padded hidden)
  Array<std::int8_t> weights_;   // of all layers: in one piece, they fill huge pages
  LayerNorm embedding_norm_;
  std::vector<Layer> layers_;
  std::vector<Dense> dense_, output_;  // one or none each

  ThreadPool pool_;
  std::mutex pool_mutex_;
  std::mutex workspaces_mutex_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;
};

}  // namespace octavo
