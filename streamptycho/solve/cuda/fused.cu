// A whole slice in one launch: every frame of a batch has a block (or a cluster of BLOCKS), its exit wave stays in shared
// memory from the product to the change, and blocks wait for each other between the batches. The launch must fit on the
// device at once. Arithmetic, order and double use of the covers as in batch.cu.

constexpr int SCRATCH = 32 * SUMS;  // floats for over_block, in front of the roots and the tile

// All blocks of the launch arrive before any goes on; cursor[2] counts arrivals and was cleared before the launch.
__device__ inline void everyone(const Slice& s) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const unsigned ticket = atomicAdd(&s.cursor[2], 1u), all = (ticket / gridDim.x + 1) * gridDim.x;
        while (polled(&s.cursor[2]) < all) wait_a_little();
        __threadfence();
    }
    __syncthreads();
}

template <class T>
struct Frame {
    const Slice& s;
    const T tile;
    const float2* roots;
    float* scratch;
    const int team;
    static constexpr int PIXELS = T::N * T::N, OWN = PIXELS / T::TEAM;

    // Calls f(pixel of the frame, y, x) for the rows of this block, in the order of memory.
    template <class F>
    __device__ void each_pixel(F f) const {
        for (int i = threadIdx.x; i < OWN; i += blockDim.x) {
            const int pixel = tile.rank * OWN + i;
            f(pixel, pixel / T::N, pixel % T::N);
        }
    }

    // Calls f(pixel) for this block's share of the probe.
    template <class F>
    __device__ void each_shared_pixel(F f) const {
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < PIXELS; i += gridDim.x * blockDim.x) f(i);
    }

    __device__ long long at(long long corner, int y, int x) const { return corner + y * s.pitch + x; }
    __device__ float2* kept(int m) const { return s.field + (static_cast<long long>(team) * MODES + m) * PIXELS; }
    __device__ float2 change(int m, int pixel, int y, int x) const { return MODES == 1 ? tile.at(y, x) : kept(m)[pixel]; }

    // Exit waves, there, projection, back. With one mode the changes stay in the tile, with several they are kept outside.
    __device__ void expose_and_project(const Batch& batch, const float2* probe) const {
        const long long k = batch.first + team, corner = corner_of(s, k);
        for (int m = 0; m < MODES; ++m) {
            each_pixel([&](int i, int y, int x) {
                const long long there = at(corner, y, x);
                tile.at(y, x) = times(fresh(probe + m * PIXELS + i), fresh(s.object + there));
                if (m == 0) atomicAdd(&s.cover[batch.parity * s.canvas + there], fresh(s.power + i));
            });
            tile.barrier();
            forward(tile, roots);
            if (MODES > 1) keep(m);
        }
        project(k);
        for (int m = 0; m < MODES; ++m) {
            if (MODES > 1) each_pixel([&](int i, int y, int x) { tile.at(y, x) = kept(m)[i]; });
            tile.barrier();
            inverse(tile, roots);
            if (MODES > 1) keep(m);
        }
    }

    __device__ void keep(int m) const {
        each_pixel([&](int i, int y, int x) { kept(m)[i] = tile.at(y, x); });
        tile.barrier();
    }

    __device__ void project(long long k) const {
        const long long row = s.rows[k];
        const float norm = 1.0f / PIXELS, flux = s.flux[row];
        float sums[SUMS] = {};
        each_pixel([&](int i, int y, int x) {
            const int fy = T::frequency_at(y), fx = T::frequency_at(x), measured = fy * T::N + fx;
            float2 field[MODES];
            float power = 0.0f;
            for (int m = 0; m < MODES; ++m) {
                field[m] = change(m, i, y, x);
                power += square(field[m]);
            }
            power *= norm;
            if (s.background) power += s.background[measured];
            const float factor = norm * project_pixel(power, s.amplitudes[row * PIXELS + measured], flux, signed_frequency(fy, T::N),
                                                      signed_frequency(fx, T::N), sums);
            for (int m = 0; m < MODES; ++m) {
                if (MODES == 1) tile.at(y, x) = factor * field[m];
                else kept(m)[i] = factor * field[m];
            }
        });
        over_block<SUMS, false>(sums, scratch);
        if (threadIdx.x == 0) {
            for (int j = 0; j < SUMS; ++j) s.partial[blockIdx.x * SUMS + j] = sums[j];
        }
    }

    // Light on this block's share of the probe from all windows of the batch.
    __device__ void gather_strength(const Batch& batch) const {
        float top = 0.0f;
        each_shared_pixel([&](int i) {
            float strength = 0.0f;
            for (int b = 0; b < batch.frames; ++b) {
                strength += square(fresh(s.object + at(corner_of(s, batch.first + b), i / T::N, i % T::N)));
            }
            s.strength[i] = strength;
            top = fmaxf(top, strength);
        });
        raise(&s.tops[2 * batch.parity + 1], top, scratch);
    }

    // The frame's wish for the probe; the largest cover under it; its figures.
    __device__ void add_to_gradient(const Batch& batch) const {
        const long long k = batch.first + team, corner = corner_of(s, k);
        const float4 step = s.steps[k];
        const float top_strength = fresh(&s.tops[2 * batch.parity + 1]);
        float cover = 0.0f;
        each_pixel([&](int i, int y, int x) {
            const long long there = at(corner, y, x);
            const float2 window = weight(step.y, step.w, fresh(s.strength + i), top_strength) * fresh(s.object + there);
            if (step.y > 0.0f) {
                for (int m = 0; m < MODES; ++m) add(s.gradient + m * PIXELS + i, conjugate_times(window, change(m, i, y, x)));
            }
            cover = fmaxf(cover, fresh(&s.cover[batch.parity * s.canvas + there]));
        });
        raise(&s.tops[2 * batch.parity], cover, scratch);
        if (threadIdx.x == 0 && tile.rank == 0) {
            float sums[SUMS] = {};
            for (int part = 0; part < T::TEAM; ++part) {
                for (int j = 0; j < SUMS; ++j) sums[j] += fresh(&s.partial[(blockIdx.x + part) * SUMS + j]);
            }
            write_figures(s, k, sums);
        }
    }

    __device__ void change_object(const Batch& batch, const float2* probe) const {
        const long long k = batch.first + team, corner = corner_of(s, k);
        const float4 step = s.steps[k];
        const float top_cover = fresh(&s.tops[2 * batch.parity]);
        each_pixel([&](int i, int y, int x) {
            const long long there = at(corner, y, x);
            float2 gain = make_float2(0.0f, 0.0f);
            for (int m = 0; m < MODES; ++m) {
                gain = gain + conjugate_times(fresh(probe + m * PIXELS + i), change(m, i, y, x));
            }
            const float cover = fresh(&s.cover[batch.parity * s.canvas + there]);
            add(&s.object[there], weight(step.x, step.z, cover, top_cover) * gain);
        });
    }

    // This block's share of the probe goes from one buffer to the other, with what the frames wished for.
    __device__ void change_probe(const float2* from, float2* to) const {
        each_shared_pixel([&](int i) {
            float power = 0.0f;
            for (int m = 0; m < MODES; ++m) {
                const float2 changed = fresh(from + m * PIXELS + i) + fresh(s.gradient + m * PIXELS + i);
                to[m * PIXELS + i] = changed;
                s.gradient[m * PIXELS + i] = make_float2(0.0f, 0.0f);
                power += square(changed);
            }
            s.power[i] = power;
        });
    }

    __device__ void clear_cover(const Batch& batch) const {
        if (team >= batch.frames) return;
        const long long corner = corner_of(s, batch.first + team);
        each_pixel([&](int, int y, int x) { s.cover[batch.parity * s.canvas + at(corner, y, x)] = 0.0f; });
    }
};

template <class T>
__device__ void walk(const Slice* slice) {
    SHARED(float, scratch);
    const Slice s = *slice;
    float2* roots = reinterpret_cast<float2*>(scratch + SCRATCH);
    for (int i = threadIdx.x; i < T::N; i += blockDim.x) roots[i] = s.roots[i];
    __syncthreads();
    const Frame<T> frame{s, T{roots + T::N, static_cast<int>(blockIdx.x % T::TEAM)}, roots, scratch,
                         static_cast<int>(blockIdx.x / T::TEAM)};
    const unsigned batches = static_cast<unsigned>((s.count + s.batch - 1) / s.batch);
    for (unsigned number = 0; number < batches; ++number) {
        const Batch batch(s, number);
        float2* now = batch.parity ? s.old : s.probe;
        float2* next = batch.parity ? s.probe : s.old;
        const bool busy = frame.team < batch.frames;
        frame.gather_strength(batch);
        if (busy) frame.expose_and_project(batch, now);
        everyone(s);
        if (busy) frame.add_to_gradient(batch);
        everyone(s);
        if (busy) frame.change_object(batch, now);
        frame.change_probe(now, next);
        if (number > 0) frame.clear_cover(Batch(s, number - 1));
        if (blockIdx.x == 0 && threadIdx.x < 2) s.tops[2 * (1 - batch.parity) + threadIdx.x] = 0.0f;
        everyone(s);
    }
    if (batches % 2) {
        frame.each_shared_pixel([&](int i) {
            for (int m = 0; m < MODES; ++m) s.probe[m * T::N * T::N + i] = fresh(s.old + m * T::N * T::N + i);
        });
    }
}

#if BLOCKS > 1
extern "C" __global__ void CLUSTER(BLOCKS) __launch_bounds__(THREADS, 1)
#else
extern "C" __global__ void __launch_bounds__(THREADS, 1)
#endif
fused(const Slice* slice) { walk<Tile<COARSE, FINE, BLOCKS>>(slice); }
