#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "pack.h"

namespace octavo {

namespace {

// Rows that pass through a layer together. Their levels, four times the hidden size wide, stay in the second cache.
constexpr std::size_t kChunkRows = 224;
// Threads share the columns of a layer, not its rows, below this number of blocks of rows for each.
constexpr std::size_t kFewBlocks = 2;
// Where threads share rows, they are dealt out in so many at once, or in blocks where those are smaller: with 32 at once
// one of two threads has a fifth more of a batch of 352 tokens.
constexpr std::size_t kDealtRows = 16;
// Attention is cut into so many tasks for each thread: enough to even out lengths, few enough that taking one costs little.
constexpr std::size_t kHeadTasks = 16;
constexpr float kLeastSquare = 1e-12f;  // below the squared length of any vector that an encoder puts out

constexpr std::size_t row_floats(std::size_t floats) { return row_bytes(floats * sizeof(float)) / sizeof(float); }

Array<float> padded_table(const std::vector<float>& values, std::size_t width) {
  const std::size_t rows = values.size() / width, stride = round_up(width, kPanel);
  Array<float> table(rows * stride);
  for (std::size_t r = 0; r < rows; ++r)
    std::copy_n(values.data() + r * width, width, table.data() + r * stride);
  return table;
}

std::size_t weight_bytes(const ModelSource& source) {
  std::size_t bytes = 0;
  for (const LayerSource& layer : source.layers) {
    for (const LinearSource& part : layer.qkv) bytes += packed_bytes(part);
    for (const LinearSource* linear : {&layer.attention_output, &layer.ffn1, &layer.ffn2})
      bytes += packed_bytes(*linear);
  }
  return bytes;
}

const ModelSource& checked(const ModelSource& source) {
  check(source);
  return source;
}

[[noreturn]] void refuse(const char* what, std::size_t place, std::int64_t value, std::int64_t least,
                         std::int64_t below) {
  throw std::invalid_argument(std::string(what) + " " + std::to_string(place) + " is " + std::to_string(value) +
                              "; it must be from " + std::to_string(least) + " to " + std::to_string(below - 1));
}

}  // namespace

Encoder::Encoder(const ModelSource& source, const Kernels& kernels, std::size_t threads)
    : kernels_(kernels),
      hidden_(checked(source).hidden),
      heads_(source.heads),
      width_(source.width()),
      activation_(source.activation),
      dense_activation_(source.dense_activation),
      reads_(source.reads),
      normalize_(source.normalize),
      position_offset_(source.position_offset),
      segment_stride_(source.segment_stride),
      max_length_(source.max_length),
      vocabulary_(static_cast<std::int64_t>(source.vocabulary)),
      positions_(static_cast<std::int64_t>(source.positions)),
      words_(padded_table(source.words, hidden_)),
      position_table_(padded_table(source.position_table, hidden_)),
      weights_(weight_bytes(source)),
      embedding_norm_(packed(source.embedding_norm)),
      pool_(threads) {
  std::int8_t* weights = weights_.data();
  const auto pack = [&](const LinearSource& linear) {
    std::int8_t* mine = weights;
    weights += packed_bytes(linear);
    return packed(linear, kernels, mine);
  };
  for (const LayerSource& layer : source.layers) {
    Layer packed_layer;
    for (const LinearSource& part : layer.qkv) packed_layer.qkv.push_back(pack(part));
    packed_layer.attention_output = pack(layer.attention_output);
    packed_layer.attention_norm = packed(layer.attention_norm);
    packed_layer.ffn1 = pack(layer.ffn1);
    packed_layer.ffn2 = pack(layer.ffn2);
    packed_layer.ffn_norm = packed(layer.ffn_norm);
    layers_.push_back(std::move(packed_layer));
  }
  if (source.dense) dense_.push_back(packed(*source.dense));
  if (source.output) output_.push_back(packed(*source.output));
}

Encoder::~Encoder() = default;

void Encoder::check(const Batch& batch) const {
  const auto tokens = static_cast<std::int64_t>(batch.tokens);
  if (batch.offsets[0] != 0) refuse("offset", 0, batch.offsets[0], 0, 1);
  for (std::size_t i = 0; i < batch.sequences; ++i) {
    const std::int64_t start = batch.offsets[i], end = batch.offsets[i + 1];
    const std::int64_t longest = std::min(tokens - start, max_length_);
    if (end <= start || end > start + longest) refuse("offset", i + 1, end, start + 1, start + longest + 1);
    for (std::int64_t token = start; token < end; ++token) {
      const std::int64_t id = batch.ids[token];
      if (id < 0 || id >= vocabulary_) refuse("token id", static_cast<std::size_t>(token), id, 0, vocabulary_);
      const std::int64_t segment = batch.segments == nullptr ? 0 : batch.segments[token];
      if (segment < 0 || segment > 1) refuse("segment", static_cast<std::size_t>(token), segment, 0, 2);
      const std::int64_t row = token - start + position_offset_ + segment * segment_stride_;
      if (row >= positions_) refuse("position", static_cast<std::size_t>(token), row, 0, positions_);
    }
  }
  if (batch.offsets[batch.sequences] != tokens)
    refuse("offset", batch.sequences, batch.offsets[batch.sequences], tokens, tokens + 1);
  if (batch.reads == nullptr) return;
  if (reads_ == Reads::one && batch.read_count != batch.sequences)
    throw std::invalid_argument("the head reads one token of each of " + std::to_string(batch.sequences) +
                                " sequences, and the batch names " + std::to_string(batch.read_count));
  for (std::size_t i = 0; i < batch.read_count; ++i) {
    const std::int64_t least = reads_ == Reads::one ? batch.offsets[i] : 0;
    const std::int64_t below = reads_ == Reads::one ? batch.offsets[i + 1] : tokens;
    if (batch.reads[i] < least || batch.reads[i] >= below) refuse("read", i, batch.reads[i], least, below);
  }
}

std::size_t Encoder::outputs(const Batch& batch) const {
  return reads_ == Reads::words && batch.reads != nullptr ? batch.read_count : batch.sequences;
}

std::unique_ptr<Workspace> Encoder::taken_workspace() {
  const std::lock_guard lock(workspaces_mutex_);
  if (workspaces_.empty()) return std::make_unique<Workspace>();
  auto workspace = std::move(workspaces_.back());
  workspaces_.pop_back();
  return workspace;
}

void Encoder::give_back(std::unique_ptr<Workspace> workspace) {
  const std::lock_guard lock(workspaces_mutex_);
  workspaces_.push_back(std::move(workspace));
}

// One batch on its way. Shapes in comments as in octavo/encoder/model.py.
class Encoder::Pass {
 public:
  Pass(Encoder& encoder, const Batch& batch, Workspace& workspace)
      : e_(encoder),
        k_(encoder.kernels_),
        batch_(batch),
        w_(workspace),
        columns_(round_up(e_.hidden_, kPanel)),
        stride_(row_floats(columns_)),
        level_stride_(row_bytes(e_.hidden_)),
        reads_(e_.outputs(batch)) {
    make_room();
  }

  void run(float* output) {
    const FloatRows states{w_.states.data(), stride_};
    embed(states);
    for (std::size_t i = 0; i + 1 < e_.layers_.size(); ++i) whole_layer(e_.layers_[i], states, next_quantizer(i));
    const Layer& last = e_.layers_.back();
    const FloatRows read{w_.read_states.data(), stride_};
    if (e_.reads_ == Reads::one) {
      read_layer(last, states, read);
    } else {
      whole_layer(last, states, nullptr);
      if (e_.reads_ == Reads::mean) mean(states, read);
      else gather(states, read);
    }
    head(read, output);
  }

 private:
  // How the columns of a layer are worked on: by the thread that has these rows, or by all threads together.
  struct Stage {
    Range rows;
    std::size_t thread;
    bool together;
  };

  void make_room() {
    const std::size_t tokens = batch_.tokens;
    w_.states.need(tokens * stride_);
    w_.qkv.need(tokens * row_floats(round_up(3 * e_.hidden_, kPanel)));
    w_.context.need(tokens * stride_);
    w_.levels.need(tokens, level_stride_);
    w_.read_states.need(reads_ * stride_);
    w_.read_query.need(reads_ * stride_);
    w_.head_states.need(reads_ * stride_);
    w_.head_output.need(reads_ * round_up(e_.width_, kPanel));
    w_.read_levels.need(reads_, level_stride_);
    std::size_t inner = 0;
    bool per_token = false;
    for (const Layer& layer : e_.layers_) {
      inner = std::max(inner, layer.ffn2.padded_inputs());
      per_token |= layer.ffn2.quantizer.per_token;
    }
    const std::size_t threads = e_.pool_.threads();
    const std::size_t together = kFewBlocks * threads * k_.row_block;  // rows that all threads work on, at the most
    const std::size_t most = std::max(kChunkRows + 2 * k_.row_block, together);
    const std::size_t chunk = std::min(std::max(tokens, reads_), most);
    w_.threads.resize(threads);
    for (ThreadScratch& scratch : w_.threads) {
      scratch.inner.need(chunk, row_bytes(inner));
      if (per_token) scratch.inner_floats.need(std::max(kFloatRows, together) * row_floats(inner));
      scratch.attention.need(attention_scratch(head_size()));
    }
  }

  std::size_t head_size() const { return e_.hidden_ / e_.heads_; }
  std::size_t start(std::size_t sequence) const { return static_cast<std::size_t>(batch_.offsets[sequence]); }
  std::size_t length(std::size_t sequence) const { return start(sequence + 1) - start(sequence); }
  std::size_t read(std::size_t i) const {
    return batch_.reads == nullptr ? start(i) : static_cast<std::size_t>(batch_.reads[i]);
  }

  const Quantizer* next_quantizer(std::size_t layer) const { return &e_.layers_[layer + 1].qkv.front().quantizer; }

  LevelRows levels_for(const Linear& layer) { return w_.levels.rows(level_stride_, layer.quantizer.per_token); }
  LevelRows levels_for(const Quantizer& quantizer) { return w_.levels.rows(level_stride_, quantizer.per_token); }

  // Calls stage(Stage) for all rows: chunk by chunk where every thread gets some blocks of rows, else once, with all
  // threads at its columns.
  template <class Work>
  void for_chunks(std::size_t rows, Work work) {
    const std::size_t threads = e_.pool_.threads();
    const std::size_t blocks = (rows + k_.row_block - 1) / k_.row_block;
    if (threads > 1 && blocks < kFewBlocks * threads) return work(Stage{{0, rows}, 0, true});
    std::size_t chunks = (rows + kChunkRows - 1) / kChunkRows;
    if (threads > 1) chunks = round_up(chunks, threads);
    const std::size_t step = threads > 1 ? std::min(kDealtRows, k_.row_block) : k_.row_block;
    const std::size_t steps = (rows + step - 1) / step;
    e_.pool_.for_each(chunks, [&](std::size_t i, std::size_t thread) {
      const Range chunk{steps * i / chunks * step, std::min(rows, steps * (i + 1) / chunks * step)};
      work(Stage{chunk, thread, false});
    });
  }

  template <class Work>
  void for_panels(const Stage& stage, const Linear& layer, Work work) {
    if (!stage.together) return work(Range{0, layer.panels});
    const std::size_t parts = std::min(layer.panels, e_.pool_.threads());
    e_.pool_.for_each(parts, [&](std::size_t i, std::size_t) {
      work(Range{layer.panels * i / parts, layer.panels * (i + 1) / parts});
    });
  }

  void embed(const FloatRows& states) {
    const Quantizer& next = e_.layers_.front().qkv.front().quantizer;
    const LevelRows levels = levels_for(next);
    const std::size_t parts = std::min(batch_.sequences, e_.pool_.threads());
    e_.pool_.for_each(parts, [&](std::size_t part, std::size_t) {
      const Range sequences{batch_.sequences * part / parts, batch_.sequences * (part + 1) / parts};
      for (std::size_t i = sequences.begin; i < sequences.end; ++i)
        for (std::size_t token = start(i); token < start(i + 1); ++token) embed_token(token, token - start(i), states);
      k_.layer_norm(e_.embedding_norm_, states, &next, levels, {start(sequences.begin), start(sequences.end)});
    });
  }

  void embed_token(std::size_t token, std::size_t place, const FloatRows& states) {
    const std::int64_t segment = batch_.segments == nullptr ? 0 : batch_.segments[token];
    const std::int64_t row = static_cast<std::int64_t>(place) + e_.position_offset_ + segment * e_.segment_stride_;
    const float* word = e_.words_.data() + static_cast<std::size_t>(batch_.ids[token]) * columns_;
    const float* position = e_.position_table_.data() + static_cast<std::size_t>(row) * columns_;
    float* state = states.row(token);
    for (std::size_t c = 0; c < columns_; ++c) state[c] = word[c] + position[c];
  }

  void whole_layer(const Layer& layer, const FloatRows& states, const Quantizer* next) {
    const Linear& qkv = layer.qkv.front();
    const FloatRows projected{w_.qkv.data(), row_floats(qkv.padded_outputs())};
    for_chunks(batch_.tokens, [&](const Stage& stage) {
      for_panels(stage, qkv, [&](Range panels) {
        k_.linear(qkv, levels_for(qkv), projected, stage.rows, panels);
      });
    });
    const FloatRows context{w_.context.data(), stride_};
    for_heads([&](std::size_t sequence, std::size_t head, float* scratch) {
      const std::size_t column = head * head_size();
      const float* query = projected.row(start(sequence)) + column;
      k_.attend({query, projected.stride, length(sequence), query + e_.hidden_, query + 2 * e_.hidden_,
                 projected.stride, length(sequence), head_size(), context.row(start(sequence)) + column,
                 context.stride, scratch});
    });
    finish(layer, context, states, w_.levels, batch_.tokens, next);
  }

  // The last layer, for the tokens alone that are read: exact, as nothing later reads more.
  void read_layer(const Layer& layer, const FloatRows& states, const FloatRows& read_states) {
    const Linear &q = layer.qkv[0], &kv = layer.qkv[1];
    const LevelRows levels = levels_for(kv);
    const LevelRows read_levels = w_.read_levels.rows(level_stride_, q.quantizer.per_token);
    for (std::size_t i = 0; i < reads_; ++i) {
      std::copy_n(states.row(read(i)), stride_, read_states.row(i));
      std::copy_n(levels.row(read(i)), level_stride_, read_levels.row(i));
      if (levels.scales != nullptr) read_levels.scales[i] = levels.scales[read(i)];
    }
    const FloatRows query{w_.read_query.data(), stride_};
    const FloatRows projected{w_.qkv.data(), row_floats(kv.padded_outputs())};
    for_chunks(reads_, [&](const Stage& stage) {
      for_panels(stage, q, [&](Range panels) { k_.linear(q, read_levels, query, stage.rows, panels); });
    });
    for_chunks(batch_.tokens, [&](const Stage& stage) {
      for_panels(stage, kv, [&](Range panels) { k_.linear(kv, levels, projected, stage.rows, panels); });
    });
    const FloatRows context{w_.context.data(), stride_};
    for_heads([&](std::size_t sequence, std::size_t head, float* scratch) {
      const std::size_t column = head * head_size();
      const float* key = projected.row(start(sequence)) + column;
      k_.attend({query.row(sequence) + column, query.stride, 1, key, key + e_.hidden_, projected.stride,
                 length(sequence), head_size(), context.row(sequence) + column, context.stride, scratch});
    });
    finish(layer, context, read_states, w_.read_levels, reads_, nullptr);
  }

  // Calls attend(sequence, head, scratch) for all.
  template <class Attend>
  void for_heads(Attend attend) {
    const std::size_t items = batch_.sequences * e_.heads_;
    const std::size_t parts = e_.pool_.threads() == 1 ? 1 : std::min(items, kHeadTasks * e_.pool_.threads());
    e_.pool_.for_each(parts, [&](std::size_t part, std::size_t thread) {
      for (std::size_t item = items * part / parts; item < items * (part + 1) / parts; ++item)
        attend(item / e_.heads_, item % e_.heads_, w_.threads[thread].attention.data());
    });
  }

  // What follows attention, row by row: states become the layer's output, levels the next layer's input.
  void finish(const Layer& layer, const FloatRows& context, const FloatRows& states, LevelBuffer& buffer,
              std::size_t rows, const Quantizer* next) {
    const auto levels_for = [&](const Quantizer& quantizer) { return buffer.rows(level_stride_, quantizer.per_token); };
    for_chunks(rows, [&](const Stage& stage) {
      const Linear& output = layer.attention_output;
      const LevelRows context_levels = levels_for(output.quantizer);
      k_.quantize(context, output.quantizer, context_levels, stage.rows);
      for_panels(stage, output, [&](Range panels) {
        k_.linear_add(output, context_levels, states, stage.rows, panels);
      });
      const LevelRows levels = levels_for(layer.ffn1.quantizer);
      k_.layer_norm(layer.attention_norm, states, &layer.ffn1.quantizer, levels, stage.rows);
      feed_forward(layer, levels, states, stage);
      const LevelRows next_levels = next == nullptr ? LevelRows{} : levels_for(*next);
      k_.layer_norm(layer.ffn_norm, states, next, next_levels, stage.rows);
    });
  }

  void feed_forward(const Layer& layer, const LevelRows& levels, const FloatRows& states, const Stage& stage) {
    const Linear &ffn1 = layer.ffn1, &ffn2 = layer.ffn2;
    const Quantizer& quantizer = ffn2.quantizer;
    const Range rows{0, stage.rows.size()};  // of this chunk, which has a scratch of its own
    const LevelRows in = rows_from(levels, stage.rows.begin);
    const FloatRows out = {states.row(stage.rows.begin), states.stride};
    ThreadScratch& scratch = w_.threads[stage.thread];
    const LevelRows inner = scratch.inner.rows(row_bytes(ffn2.padded_inputs()), quantizer.per_token);
    const FloatRows floats{scratch.inner_floats.data(), row_floats(ffn1.padded_outputs())};
    if (quantizer.per_token && stage.together) {  // no thread sees a whole row
      for_panels(stage, ffn1, [&](Range panels) {
        k_.linear_activate(ffn1, e_.activation_, in, floats, rows, panels);
      });
      k_.quantize(floats, quantizer, inner, rows);
    } else {
      for_panels(stage, ffn1, [&](Range panels) {
        k_.linear_activate_quantize(ffn1, e_.activation_, in, quantizer, floats, inner, rows, panels);
      });
    }
    for_panels(stage, ffn2, [&](Range panels) { k_.linear_add(ffn2, inner, out, rows, panels); });
  }

  static LevelRows rows_from(const LevelRows& rows, std::size_t first) {
    return {rows.row(first), rows.stride, rows.scales == nullptr ? nullptr : rows.scales + first};
  }

  void mean(const FloatRows& states, const FloatRows& means) {
    for (std::size_t i = 0; i < batch_.sequences; ++i) {
      float* total = means.row(i);
      std::fill_n(total, stride_, 0.0f);
      for (std::size_t token = start(i); token < start(i + 1); ++token)
        for (std::size_t c = 0; c < stride_; ++c) total[c] += states.row(token)[c];
      const float share = 1.0f / static_cast<float>(length(i));
      for (std::size_t c = 0; c < stride_; ++c) total[c] *= share;
    }
  }

  void gather(const FloatRows& states, const FloatRows& gathered) {
    for (std::size_t i = 0; i < reads_; ++i) std::copy_n(states.row(read(i)), stride_, gathered.row(i));
  }

  void head(FloatRows states, float* output) {
    if (!e_.dense_.empty()) {
      const FloatRows dense{w_.head_states.data(), stride_};
      k_.dense(e_.dense_.front(), states, dense, reads_);
      if (e_.dense_activation_ == Activation::tanh) k_.tanh(dense.data, reads_ * stride_);
      else std::for_each_n(dense.data, reads_ * stride_, [](float& x) { x = x < 0 ? 0 : x; });
      states = dense;
    }
    if (!e_.output_.empty()) {
      const FloatRows outputs{w_.head_output.data(), round_up(e_.width_, kPanel)};
      k_.dense(e_.output_.front(), states, outputs, reads_);
      states = outputs;
    }
    for (std::size_t i = 0; i < reads_; ++i) {
      float* row = output + i * e_.width_;
      std::copy_n(states.row(i), e_.width_, row);
      if (e_.normalize_) normalize(row);
    }
  }

  void normalize(float* row) const {
    float square = 0;
    for (std::size_t c = 0; c < e_.width_; ++c) square += row[c] * row[c];
    const float inverse = 1.0f / std::sqrt(square < kLeastSquare ? kLeastSquare : square);
    for (std::size_t c = 0; c < e_.width_; ++c) row[c] *= inverse;
  }

  Encoder& e_;
  const Kernels& k_;
  const Batch& batch_;
  Workspace& w_;
  std::size_t columns_, stride_, level_stride_, reads_;
};

void Encoder::run(const Batch& batch, float* output) {
  if (batch.sequences == 0) return;
  std::unique_lock turn(pool_mutex_, std::defer_lock);
  if (pool_.threads() > 1) turn.lock();
  auto workspace = taken_workspace();
  Pass(*this, batch, *workspace).run(output);
  give_back(std::move(workspace));
}

}  // namespace octavo
