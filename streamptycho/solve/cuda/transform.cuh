// Two-dimensional transforms of a tile in shared memory, in place.
//
// A line of N = R1 R2 points takes two passes of short transforms that fit in registers (Cooley & Tukey 1965). Positions are
// not put back in order in between: after the forward transform, position p = R2 k + q holds frequency k + R1 q, and the
// inverse starts from there. So nothing moves but in place, and the projection asks `frequency_at`.

// N x N tile over the shared memory of TEAM blocks, N / TEAM rows each. The order within a row is scrambled so that neither
// pass along rows or columns meets the same bank twice.
template <int R1_, int R2_, int TEAM_>
struct Tile {
    static constexpr int R1 = R1_, R2 = R2_, N = R1 * R2, TEAM = TEAM_, ROWS = N / TEAM;
    float2* own;
    int rank;

    __device__ float2& at(int y, int x) const {
        const int place = y % ROWS * N + (x ^ ((x >> 3) & 7) ^ ((y & 1) << 3));
        return TEAM == 1 ? own[place] : block(y / ROWS)[place];
    }
    __device__ float2* block(int of) const {
        if constexpr (TEAM == 1) return own;
        else return of_block(own, of);
    }
    __device__ void barrier() const {
        if constexpr (TEAM == 1) __syncthreads();
        else cluster_barrier();
    }
    static __device__ int frequency_at(int position) { return position / R2 + R1 * (position % R2); }
};

// Point `index` of line `line`: lines are rows or columns.
template <bool ALONG_X, class T>
__device__ inline float2& point(const T& tile, int line, int index) {
    return ALONG_X ? tile.at(line, index) : tile.at(index, line);
}

// The lines of this block: its rows, or an equal share of the columns. Neighbouring threads take neighbouring points of a
// row, and neighbouring columns.
template <bool ALONG_X, class T, int PER_LINE, class F>
__device__ inline void each_line(const T& tile, F f) {
    for (int i = threadIdx.x; i < T::ROWS * PER_LINE; i += blockDim.x) {
        const int line = ALONG_X ? i / PER_LINE : i % T::ROWS, part = ALONG_X ? i % PER_LINE : i / T::ROWS;
        f(tile.rank * T::ROWS + line, part);
    }
    tile.barrier();
}

// R1-point transforms over points t + R2 j; they leave outcome k at t + R2 k. `roots` turn outcome k by t k.
template <bool ALONG_X, int SIGN, class T>
__device__ void coarse_pass(const T& tile, const float2* roots) {
    each_line<ALONG_X, T, T::R2>(tile, [&](int line, int t) {
        float2 v[T::R1];
#pragma unroll
        for (int j = 0; j < T::R1; ++j) v[j] = point<ALONG_X>(tile, line, t + T::R2 * j);
        Short<T::R1, SIGN>::run(v);
#pragma unroll
        for (int k = 0; k < T::R1; ++k) point<ALONG_X>(tile, line, t + T::R2 * k) = SIGN > 0 ? times(roots[t * k], v[k]) : v[k];
    });
}

// R2-point transforms over points R2 k + q.
template <bool ALONG_X, int SIGN, class T>
__device__ void fine_pass(const T& tile, const float2* roots) {
    each_line<ALONG_X, T, T::R1>(tile, [&](int line, int k) {
        float2 v[T::R2];
#pragma unroll
        for (int q = 0; q < T::R2; ++q) v[q] = point<ALONG_X>(tile, line, T::R2 * k + q);
        Short<T::R2, SIGN>::run(v);
#pragma unroll
        for (int q = 0; q < T::R2; ++q) {
            point<ALONG_X>(tile, line, T::R2 * k + q) = SIGN > 0 ? v[q] : conjugate_times(roots[q * k], v[q]);
        }
    });
}

// Both start and end with the tile at rest.
template <class T>
__device__ void forward(const T& tile, const float2* roots) {
    coarse_pass<true, 1>(tile, roots);
    fine_pass<true, 1>(tile, roots);
    coarse_pass<false, 1>(tile, roots);
    fine_pass<false, 1>(tile, roots);
}

template <class T>
__device__ void inverse(const T& tile, const float2* roots) {
    fine_pass<false, -1>(tile, roots);
    coarse_pass<false, -1>(tile, roots);
    fine_pass<true, -1>(tile, roots);
    coarse_pass<true, -1>(tile, roots);
}
