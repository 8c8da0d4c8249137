/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What changed between two selectors, function by function, and whether it is more than noise.
 *
 * The change of a function is the difference of its shares: of all time that a selector matches, how much was spent in
 * the function itself (self) and in it with what it called (total).
 *
 * Whether that is noise cannot be told from the number of samples alone: what a program does comes in bursts, so that
 * neighbouring samples are alike and shares vary more than those of independent draws. The unsteadiness is therefore
 * taken from the data:
 *
 * 1. Each side is cut into up to 16 parts in time, with about the same number of events each (query/span.h).
 * 2. The variance of a share is that of a ratio over clusters, the parts (Cochran, Sampling Techniques, 3rd ed., 1977,
 *    6.3), with residuals corrected for the weight of their part (MacKinnon, White, J. of Econometrics 29, 1985: HC2).
 *    Parts two and four times as long are looked at too and the largest variance counts, so that bursts which reach
 * over boundaries do not pass for steadiness (batch means: Law, Simulation Modeling and Analysis, 5th ed., 9.5.3).
 * 3. It is never taken for less than that of independent events of the same number and mean value, which for CPU
 * samples is the binomial p (1 - p) / n; and, as in quasi-likelihood (McCullagh, Nelder, Generalized Linear Models, 2nd
 * ed., 4.5), never for less than this times the dispersion that both sides show together: a side that a rare burst has
 *    missed would believe itself to be steady.
 * 4. The difference of the shares over its deviation is compared with Student's t, degrees of freedom by Welch and
 *    Satterthwaite (Welch, Biometrika 34, 1947). Of self and total the smaller probability counts, doubled
 * (Bonferroni).
 * 5. Many functions are tested at once. Significant are those that the procedure of Benjamini and Hochberg (J. of the
 *    Royal Statistical Society B 57, 1995) picks at 1 %: where nothing has changed, 99 of 100 comparisons name no
 *    function at all; where something has, at most 1 % of the functions named are expected to be noise. Functions with
 *    fewer than AP_DIFF_EVENTS_MIN events on both sides together are not tested: no split of so few could pass.
 *
 * That is cautious: of 1,100 comparisons of halves of steady loads (11 kinds: independent samples, bursts, heavy-tailed
 * bursts and values, sides of unequal length) none named a function, and of their 258,000 tests 0.03 % fell below 1 %.
 * A function that goes from 4 % to 5 % of ten minutes at 99 Hz is found in 98 % of the cases, from 4 % to 4.5 % of half
 * an hour in 80 % (tests/unit/query/test_stat.c).
 *
 * With fewer than 8 parts (events in fewer than 8 places in time, such as an imported profile without times)
 * unsteadiness is not known and nothing is called significant. A phase that lasts for more than an eighth of a side
 * looks like a change, and for the time compared it is one. */
#ifndef APERTURE_QUERY_DIFF_H
#define APERTURE_QUERY_DIFF_H

#include "core/error.h"
#include "model/answer.h"
#include "model/selector.h"
#include "query/gather.h"

#include <stddef.h>

#define AP_DIFF_LEVEL      0.01
#define AP_DIFF_EVENTS_MIN 12

/* Most functions compared: each takes about 600 bytes. */
#define AP_DIFF_FUNCTIONS_MAX (1u << 18)
/* Most sums by stack of all parts together. */
#define AP_DIFF_SUMS_MAX (16u << 20)

/* Everything of the answer but the accounts in its provenance. The kinds of both selectors are the same and given.
 * Errors as in query/query.h. Any thread. */
int ap_diff(struct ap_query *query, const struct ap_selector *before, const struct ap_selector *after, size_t limit,
            struct ap_diff_answer *ret_answer, struct ap_error *err);

#endif
