(* The least loss of the two-factor model: cross-entropy of W h / T with weight decay on both factors.

   Classes k < c, N samples (k, j), j < N, of each, features h k j of width d, classifier rows W k.
   With tau = T sqrt (N lw lh) and p = 1 - (c - 1) tau, the least loss is - p ln p - (c - 1) tau ln tau
   if tau < 1/c and d >= c - 1 (and no less for any d), and there the logits are those of a simplex, with
   probability tau of each wrong class.  Otherwise it is ln c, at zero alone. *)

Load "sums".

Lemma sum_ge0 n f : (forall k, (k < n)%nat -> 0 <= f k) -> 0 <= sum n f.
Proof.
  intros h. apply Rle_trans with (sum n (fun _ => 0)); [|apply sum_le, h].
  rewrite sum_const. lra.
Qed.

Lemma sum_zero n f : (forall k, (k < n)%nat -> 0 <= f k) -> sum n f <= 0 ->
  forall k, (k < n)%nat -> f k = 0.
Proof.
  induction n as [|n IH]; simpl; intros h e k hk; [lia|].
  assert (0 <= sum n f) by (apply sum_ge0; intros j hj; apply h; lia).
  assert (0 <= f n) by (apply h; lia).
  destruct (Nat.eq_dec k n) as [->|ne]; [lra|].
  apply IH; [intros j hj; apply h; lia | lra | lia].
Qed.

Lemma sum_beyond n m f : (n <= m)%nat -> (forall k, (n <= k)%nat -> f k = 0) -> sum m f = sum n f.
Proof.
  intros nm zero. induction nm as [|m nm IH]; [reflexivity|].
  simpl. rewrite IH, (zero m nm). ring.
Qed.

(* One term has the weight a, all others have b. *)
Lemma sum_weighted n y a b f : (y < n)%nat ->
  sum n (fun k => (if Nat.eqb k y then a else b) * f k) = b * sum n f + (a - b) * f y.
Proof.
  induction n; intros hy; [lia|]. simpl. destruct (Nat.eqb_spec n y) as [->|ne].
  - rewrite (sum_ext _ _ (fun k => b * f k)), sum_scal; [ring|].
    intros k hk. destruct (Nat.eqb_spec k y); [lia|reflexivity].
  - rewrite IHn by lia. ring.
Qed.

Lemma exp_sum_pos n z : (0 < n)%nat -> 0 < sum n (fun k => exp (z k)).
Proof.
  induction n as [|n IH]; intros hn; [lia|]. simpl. pose proof (exp_pos (z n)).
  destruct n as [|n]; [simpl; lra|]. specialize (IH ltac:(lia)). lra.
Qed.

Lemma exp_ratio q v : 0 < q -> q * exp (v - ln q) = exp v.
Proof. intros hq. unfold Rminus. rewrite exp_plus, exp_Ropp, exp_ln by assumption. field. lra. Qed.

(* ln x <= x - 1 at x = exp v / q, with equality at 1 alone *)
Lemma term_ge q v : 0 < q -> q - exp v <= q * (ln q - v).
Proof.
  intros hq. pose proof (exp_ineq1_le (v - ln q)) as h.
  apply Rmult_le_compat_l with (r := q) in h; [|lra]. rewrite exp_ratio in h by exact hq. lra.
Qed.

Lemma term_eq q v : 0 < q -> q * (ln q - v) - (q - exp v) = 0 -> v = ln q.
Proof.
  intros hq e. destruct (Req_dec (v - ln q) 0) as [same|other]; [lra|].
  pose proof (exp_ineq1 (v - ln q) other) as h.
  apply Rmult_lt_compat_l with (r := q) in h; [|exact hq]. rewrite exp_ratio in h by exact hq. lra.
Qed.

(* A simplex of S n rows in n columns: each balances one class against the classes before it. *)
Definition helmert k l : R :=
  (if Nat.leb k l then 1 else if Nat.eqb k (S l) then - INR (S l) else 0)
  / sqrt (INR (S l) * INR (S (S l))).

Lemma helmert_product n k i : (k <= n)%nat -> (i <= n)%nat ->
  sum n (fun l => helmert k l * helmert i l) = (if Nat.eqb i k then 1 else 0) - / INR (S n).
Proof.
  revert k i. induction n as [|n IH]; intros k i hk hi.
  - replace k with 0%nat by lia. replace i with 0%nat by lia. simpl. field.
  - assert (0 <= INR n) as n0 by apply pos_INR.
    assert (0 < INR (S n) * INR (S (S n))) as pos
      by (apply Rmult_lt_0_compat; apply lt_0_INR; lia).
    assert (forall x y, x / sqrt (INR (S n) * INR (S (S n))) * (y / sqrt (INR (S n) * INR (S (S n))))
      = x * y / (INR (S n) * INR (S (S n)))) as squares.
    { intros x y. rewrite <- (sqrt_sqrt (INR (S n) * INR (S (S n)))) at 3 by lra. field.
      apply Rgt_not_eq, sqrt_lt_R0, pos. }
    assert (forall m, sum n (fun l => helmert (S n) l * helmert m l) = 0) as last.
    { intros m. rewrite (sum_ext _ _ (fun _ => 0)); [rewrite sum_const; ring|].
      intros l hl. unfold helmert at 1.
      destruct (Nat.leb_spec (S n) l); [lia|]. destruct (Nat.eqb_spec (S n) (S l)); [lia|].
      unfold Rdiv. ring. }
    assert (forall m, sum n (fun l => helmert m l * helmert (S n) l) = 0) as last'.
    { intros m. rewrite <- (last m). apply sum_ext; intros; ring. }
    change (sum (S n) (fun l => helmert k l * helmert i l))
      with (sum n (fun l => helmert k l * helmert i l) + helmert k n * helmert i n).
    unfold helmert at 3 4. rewrite squares. rewrite (S_INR (S n)), (S_INR n).
    destruct (Nat.leb_spec k n), (Nat.leb_spec i n).
    + rewrite IH, S_INR by lia. destruct (Nat.eqb i k); field; lra.
    + replace i with (S n) in * by lia. rewrite last', Nat.eqb_refl.
      destruct (Nat.eqb_spec (S n) k); [lia|]. field; lra.
    + replace k with (S n) in * by lia. rewrite last, Nat.eqb_refl.
      destruct (Nat.eqb_spec i (S n)); [lia|]. field; lra.
    + replace i with (S n) in * by lia. replace k with (S n) in * by lia.
      rewrite last, Nat.eqb_refl. field; lra.
Qed.

Section TwoFactors.
Variables (c N : nat) (T lw lh : R).
Hypothesis c_ge2 : (2 <= c)%nat.
Hypothesis N_ge1 : (1 <= N)%nat.
Hypothesis T_pos : 0 < T.
Hypothesis lw_pos : 0 < lw.
Hypothesis lh_pos : 0 < lh.

(* Logits of sample (k, j) over T, and the loss. *)
Definition logit d (W : nat -> nat -> R) (h : nat -> nat -> nat -> R) k j i : R :=
  sum d (fun l => W i l * h k j l) / T.
Definition partition (z : nat -> R) : R := sum c (fun k => exp (z k)).
Definition cross_entropy (z : nat -> R) y : R := ln (partition z) - z y.
Definition loss d W h : R :=
  sum c (fun k => sum N (fun j => cross_entropy (logit d W h k j) k)) / (INR c * INR N)
  + lw / 2 * sum c (fun k => sum d (fun l => W k l ^ 2))
  + lh / 2 * sum c (fun k => sum N (fun j => sum d (fun l => h k j l ^ 2))).

Definition tau : R := T * sqrt (INR N * lw * lh).
Definition p : R := 1 - (INR c - 1) * tau.
Definition least : R := - p * ln p - (INR c - 1) * (tau * ln tau).

Lemma c_ge : 2 <= INR c.
Proof. apply le_INR in c_ge2. simpl in c_ge2. lra. Qed.

Lemma N_ge : 1 <= INR N.
Proof. apply le_INR in N_ge1. simpl in N_ge1. lra. Qed.

Lemma N_lw_lh_pos : 0 < INR N * lw * lh.
Proof. pose proof N_ge. repeat apply Rmult_lt_0_compat; lra. Qed.

Lemma tau_pos : 0 < tau.
Proof. apply Rmult_lt_0_compat; [assumption|]. apply sqrt_lt_R0, N_lw_lh_pos. Qed.

Lemma tau_squared : tau ^ 2 = T ^ 2 * (INR N * lw * lh).
Proof.
  unfold tau. rewrite Rpow_mult_distr, pow2_sqrt; [reflexivity|].
  pose proof N_lw_lh_pos. lra.
Qed.

(* Entropy of the probability 1 - (c - 1) t of one class and t of each other. *)
Definition entropy t : R :=
  - (1 - (INR c - 1) * t) * ln (1 - (INR c - 1) * t) - (INR c - 1) * (t * ln t).

Definition guess t y k : R := if Nat.eqb k y then 1 - (INR c - 1) * t else t.

(* The divergence of these probabilities from the softmax of z, as a sum of terms >= 0. *)
Definition divergence t z y : R :=
  sum c (fun k => guess t y k * (ln (guess t y k) - (z k - ln (partition z)))
                  - (guess t y k - exp (z k - ln (partition z)))).

Lemma guess_pos t y k : 0 < t -> INR c * t <= 1 -> 0 < guess t y k.
Proof. intros ht hct. unfold guess. destruct (Nat.eqb k y); lra. Qed.

Lemma divergence_ge0 t z y : 0 < t -> INR c * t <= 1 -> 0 <= divergence t z y.
Proof.
  intros ht hct. apply sum_ge0; intros k _.
  pose proof (term_ge _ (z k - ln (partition z)) (guess_pos t y k ht hct)). lra.
Qed.

Lemma divergence_zero t z y : 0 < t -> INR c * t <= 1 -> divergence t z y = 0 ->
  forall k, (k < c)%nat -> z k - ln (partition z) = ln (guess t y k).
Proof.
  intros ht hct e k hk. apply term_eq; [apply guess_pos; assumption|].
  refine (sum_zero c (fun k => guess t y k * (ln (guess t y k) - (z k - ln (partition z)))
                  - (guess t y k - exp (z k - ln (partition z)))) _ _ k hk).
  - intros i _. pose proof (term_ge _ (z i - ln (partition z)) (guess_pos t y i ht hct)). lra.
  - right. exact e.
Qed.

Lemma cross_entropy_split t z y : (y < c)%nat ->
  cross_entropy z y = entropy t - t * (INR c * z y - sum c z) + divergence t z y.
Proof.
  intros hy. unfold entropy, cross_entropy, divergence.
  pose proof (exp_sum_pos c z ltac:(lia)) as hZ. fold (partition z) in hZ.
  set (Z := partition z) in *. set (u := guess t y). set (q := 1 - (INR c - 1) * t).
  assert (sum c u = INR c * t + (q - t)) as total.
  { rewrite (sum_ext _ _ (fun k => u k * 1)) by (intros; ring).
    unfold u, guess. rewrite sum_weighted, sum_const by exact hy. unfold q. ring. }
  assert (sum c (fun k => exp (z k - ln Z)) = 1) as softmax.
  { rewrite (sum_ext _ _ (fun k => / Z * exp (z k))).
    - rewrite sum_scal. fold (partition z). fold Z. field. lra.
    - intros k _. unfold Rminus. rewrite exp_plus, exp_Ropp, exp_ln by exact hZ. ring. }
  rewrite sum_minus, (sum_minus c u), total, softmax.
  rewrite (sum_ext _ (fun k => u k * (ln (u k) - (z k - ln Z)))
    (fun k => u k * ln (u k) - u k * z k + ln Z * u k)) by (intros; ring).
  rewrite sum_plus, sum_minus, sum_scal, total.
  rewrite (sum_ext _ (fun k => u k * ln (u k))
    (fun k => (if Nat.eqb k y then q * ln q else t * ln t) * 1)).
  - unfold u, guess. fold q. rewrite !sum_weighted, sum_const by exact hy.
    set (L := ln q). unfold q. ring.
  - intros k _. unfold u, guess. fold q. destruct (Nat.eqb k y); ring.
Qed.

Section Bound.
Variables (d : nat) (W : nat -> nat -> R) (h : nat -> nat -> nat -> R) (t : R).
Hypothesis t_pos : 0 < t.
Hypothesis t_le : INR c * t <= 1.
Hypothesis t_squared : t ^ 2 <= T ^ 2 * (INR N * lw * lh).

Definition centred k l : R := W k l - sum c (fun i => W i l) / INR c.
Definition kappa : R := t / (INR N * T).

Lemma contrast k j : (k < c)%nat ->
  t * (INR c * logit d W h k j k - sum c (logit d W h k j))
  = INR c * INR N * (kappa * sum d (fun l => centred k l * h k j l)).
Proof.
  intros hk. pose proof c_ge. pose proof N_ge.
  assert (sum c (logit d W h k j) = / T * sum d (fun l => sum c (fun i => W i l) * h k j l)) as ->.
  { unfold logit, Rdiv.
    rewrite (sum_ext _ _ (fun i => / T * sum d (fun l => W i l * h k j l))) by (intros; ring).
    rewrite sum_scal, sum_swap. f_equal. apply sum_ext; intros l _. rewrite Rmult_comm, <- sum_scal.
    apply sum_ext; intros; ring. }
  assert (sum d (fun l => centred k l * h k j l) = sum d (fun l => W k l * h k j l)
    - / INR c * sum d (fun l => sum c (fun i => W i l) * h k j l)) as ->.
  { rewrite <- sum_scal, <- sum_minus. apply sum_ext; intros l _. unfold centred, Rdiv. ring. }
  unfold logit, kappa. field. lra.
Qed.

Definition total l : R := sum c (fun i => W i l).

Lemma centred_squares : sum c (fun k => sum d (fun l => centred k l ^ 2))
  = sum c (fun k => sum d (fun l => W k l ^ 2)) - / INR c * sum d (fun l => total l ^ 2).
Proof.
  rewrite sum_swap, (sum_swap c d (fun k l => W k l ^ 2)), <- sum_scal, <- sum_minus.
  apply sum_ext; intros l _.
  rewrite (sum_ext _ _ (fun k => W k l ^ 2 - 2 * (total l / INR c) * W k l + (total l / INR c) ^ 2))
    by (intros k _; unfold centred; fold (total l); ring).
  rewrite sum_plus, sum_minus, sum_scal, sum_const. fold (total l). pose proof c_ge. field. lra.
Qed.

(* Young's inequality in each coordinate. *)
Lemma young x y : kappa * (x * y) <= lh / 2 * y ^ 2 + kappa ^ 2 / (2 * lh) * x ^ 2.
Proof.
  enough (0 <= / (2 * lh) * (lh * y - kappa * x) ^ 2) as square.
  { replace (/ (2 * lh) * (lh * y - kappa * x) ^ 2)
      with (lh / 2 * y ^ 2 + kappa ^ 2 / (2 * lh) * x ^ 2 - kappa * (x * y)) in square
      by (field; lra). lra. }
  apply Rmult_le_pos; [|apply pow2_ge_0]. left. apply Rinv_0_lt_compat. lra.
Qed.

Lemma kappa_squared : INR N * (kappa ^ 2 / (2 * lh)) <= lw / 2.
Proof.
  pose proof N_ge. unfold kappa.
  replace (INR N * ((t / (INR N * T)) ^ 2 / (2 * lh))) with (/ (2 * lh * (INR N * T ^ 2)) * t ^ 2)
    by (field; lra).
  replace (lw / 2) with (/ (2 * lh * (INR N * T ^ 2)) * (T ^ 2 * (INR N * lw * lh))) by (field; lra).
  apply Rmult_le_compat_l; [|exact t_squared].
  left. apply Rinv_0_lt_compat. repeat apply Rmult_lt_0_compat; lra.
Qed.

Lemma decays_ge :
  sum c (fun k => sum N (fun j => kappa * sum d (fun l => centred k l * h k j l)))
  <= lw / 2 * (sum c (fun k => sum d (fun l => W k l ^ 2)) - / INR c * sum d (fun l => total l ^ 2))
     + lh / 2 * sum c (fun k => sum N (fun j => sum d (fun l => h k j l ^ 2))).
Proof.
  apply Rle_trans with (sum c (fun k => sum N (fun j => lh / 2 * sum d (fun l => h k j l ^ 2)
    + kappa ^ 2 / (2 * lh) * sum d (fun l => centred k l ^ 2)))).
  - apply sum_le; intros k _; apply sum_le; intros j _. rewrite <- !sum_scal, <- sum_plus.
    apply sum_le; intros l _. apply young.
  - rewrite (sum_ext _ _ (fun k => lh / 2 * sum N (fun j => sum d (fun l => h k j l ^ 2))
      + INR N * (kappa ^ 2 / (2 * lh)) * sum d (fun l => centred k l ^ 2))).
    2:{ intros k _. rewrite sum_plus, sum_scal, sum_const. ring. }
    rewrite sum_plus, !sum_scal, <- centred_squares. pose proof kappa_squared as scale.
    assert (0 <= sum c (fun k => sum d (fun l => centred k l ^ 2))) as nonneg.
    { apply sum_ge0; intros; apply sum_ge0; intros; apply pow2_ge_0. }
    apply Rmult_le_compat_r with (r := sum c (fun k => sum d (fun l => centred k l ^ 2))) in scale;
      [lra|exact nonneg].
Qed.

Definition divergences : R := sum c (fun k => sum N (fun j => divergence t (logit d W h k j) k)).

Lemma loss_ge : entropy t + / (INR c * INR N) * divergences
  + lw / 2 * / INR c * sum d (fun l => total l ^ 2) <= loss d W h.
Proof.
  pose proof c_ge. pose proof N_ge. unfold loss.
  rewrite (sum_ext c (fun k => sum N (fun j => cross_entropy (logit d W h k j) k))
    (fun k => INR N * entropy t
      - INR c * INR N * sum N (fun j => kappa * sum d (fun l => centred k l * h k j l))
      + sum N (fun j => divergence t (logit d W h k j) k))).
  2:{ intros k hk. rewrite <- sum_const, <- sum_scal, <- sum_minus, <- sum_plus.
    apply sum_ext; intros j _. rewrite <- contrast by exact hk. apply cross_entropy_split, hk. }
  rewrite sum_plus, sum_minus, sum_const, sum_scal. fold divergences.
  set (s := sum c (fun k => sum N (fun j => kappa * sum d (fun l => centred k l * h k j l)))).
  replace ((INR c * (INR N * entropy t) - INR c * INR N * s + divergences) / (INR c * INR N))
    with (entropy t - s + / (INR c * INR N) * divergences) by (field; lra).
  pose proof decays_ge as decays. fold s in decays. lra.
Qed.

Lemma divergences_ge0 : 0 <= divergences.
Proof. apply sum_ge0; intros; apply sum_ge0; intros; apply divergence_ge0; assumption. Qed.

Lemma totals_ge0 : 0 <= sum d (fun l => total l ^ 2).
Proof. apply sum_ge0; intros; apply pow2_ge_0. Qed.

Lemma scales : 0 < / (INR c * INR N) /\ 0 < lw / 2 * / INR c.
Proof.
  pose proof c_ge. pose proof N_ge. split.
  - apply Rinv_0_lt_compat, Rmult_lt_0_compat; lra.
  - apply Rmult_lt_0_compat; [lra|]. apply Rinv_0_lt_compat; lra.
Qed.

Lemma entropy_le : entropy t <= loss d W h.
Proof.
  pose proof loss_ge. pose proof scales as [s1 s2].
  pose proof (Rmult_le_pos _ _ (Rlt_le _ _ s1) divergences_ge0).
  pose proof (Rmult_le_pos _ _ (Rlt_le _ _ s2) totals_ge0). lra.
Qed.

(* Where the bound is attained, the predictions are these and the logits of a sample add up to 0. *)
Lemma logits_at_minimum : loss d W h = entropy t ->
  forall k j i, (k < c)%nat -> (j < N)%nat -> (i < c)%nat ->
  exp (logit d W h k j i) / partition (logit d W h k j) = guess t k i /\
  logit d W h k j i = ((if Nat.eqb i k then 1 else 0) - / INR c) * ln ((1 - (INR c - 1) * t) / t).
Proof.
  intros attained k j. pose proof loss_ge as bound. pose proof scales as [s1 s2]. pose proof c_ge.
  pose proof (Rmult_le_pos _ _ (Rlt_le _ _ s1) divergences_ge0) as d1.
  pose proof (Rmult_le_pos _ _ (Rlt_le _ _ s2) totals_ge0) as d2.
  assert (divergences = 0) as no_divergence by (apply (Rmult_eq_reg_l (/ (INR c * INR N))); lra).
  assert (sum d (fun l => total l ^ 2) = 0) as no_total
    by (apply (Rmult_eq_reg_l (lw / 2 * / INR c)); lra).
  intros i hk hj hi. set (z := logit d W h k j).
  assert (divergence t z k = 0) as zero.
  { assert (sum N (fun j => divergence t (logit d W h k j) k) = 0) as row.
    { refine (sum_zero c (fun k => sum N (fun j => divergence t (logit d W h k j) k)) _ _ k hk).
      - intros; apply sum_ge0; intros; apply divergence_ge0; assumption.
      - right. exact no_divergence. }
    refine (sum_zero N (fun j => divergence t (logit d W h k j) k) _ _ j hj).
    - intros; apply divergence_ge0; assumption.
    - right. exact row. }
  pose proof (divergence_zero t z k t_pos t_le zero) as predicted.
  pose proof (exp_sum_pos c z ltac:(lia)) as hZ. fold (partition z) in hZ.
  split.
  - rewrite <- (exp_ln (guess t k i)) by (apply guess_pos; assumption).
    rewrite <- predicted by exact hi.
    unfold Rminus. rewrite exp_plus, exp_Ropp, exp_ln by exact hZ. reflexivity.
  - assert (sum c z = 0) as centre.
    { unfold z, logit, Rdiv.
      rewrite (sum_ext _ _ (fun i => / T * sum d (fun l => W i l * h k j l))) by (intros; ring).
      rewrite sum_scal, sum_swap, (sum_ext _ _ (fun _ => 0)); [rewrite sum_const; ring|].
      intros l hl. rewrite (sum_ext _ _ (fun i => h k j l * W i l)) by (intros; ring).
      rewrite sum_scal. fold (total l).
      assert (total l ^ 2 = 0) as e.
      { refine (sum_zero d (fun l => total l ^ 2) _ _ l hl); [intros; apply pow2_ge_0 | lra]. }
      replace (total l) with 0; [ring|]. symmetry. apply Rsqr_0_uniq. rewrite Rsqr_pow2. exact e. }
    assert (0 < 1 - (INR c - 1) * t) as hq by lra.
    set (q := 1 - (INR c - 1) * t) in *.
    rewrite (sum_ext _ _ (fun i => (if Nat.eqb i k then ln q else ln t) * 1 + ln (partition z)))
      in centre.
    2:{ intros n hn. pose proof (predicted n hn) as e. unfold guess in e. fold q in e.
      destruct (Nat.eqb n k); lra. }
    rewrite sum_plus, sum_weighted, !sum_const in centre by exact hk.
    assert (ln (partition z) = - ln t - (ln q - ln t) / INR c) as value.
    { apply (Rmult_eq_reg_l (INR c)); [|lra]. field_simplify; lra. }
    pose proof (predicted i hi) as e. rewrite value in e. unfold guess in e. fold q in e.
    unfold Rdiv at 1. rewrite ln_mult, ln_Rinv by
      first [assumption | apply Rinv_0_lt_compat; assumption].
    destruct (Nat.eqb i k); lra.
Qed.
End Bound.

Lemma below t : t < 1 / INR c -> INR c * t < 1.
Proof.
  intros ht. pose proof c_ge. apply Rmult_lt_compat_l with (r := INR c) in ht; [|lra].
  replace (INR c * (1 / INR c)) with 1 in ht by (field; lra). exact ht.
Qed.

Theorem lower_bound d W h : tau < 1 / INR c -> least <= loss d W h.
Proof.
  intros cold. apply below in cold. apply entropy_le; [exact tau_pos|lra|].
  rewrite tau_squared. lra.
Qed.

Lemma uniform : entropy (/ INR c) = ln (INR c).
Proof.
  pose proof c_ge. unfold entropy.
  replace (1 - (INR c - 1) * / INR c) with (/ INR c) by (field; lra).
  rewrite ln_Rinv by lra. field. lra.
Qed.

Lemma hot_bounds : 1 / INR c <= tau ->
  0 < / INR c /\ INR c * / INR c <= 1 /\ (/ INR c) ^ 2 <= T ^ 2 * (INR N * lw * lh).
Proof.
  intros hot. pose proof c_ge. assert (0 < / INR c) by (apply Rinv_0_lt_compat; lra).
  repeat split; [assumption|right; field; lra|]. rewrite <- tau_squared. apply pow_incr. lra.
Qed.

Theorem lower_bound_hot d W h : 1 / INR c <= tau -> ln (INR c) <= loss d W h.
Proof.
  intros hot. destruct (hot_bounds hot) as (? & ? & ?). rewrite <- uniform.
  apply entropy_le; assumption.
Qed.

Theorem attained_at_zero d : loss d (fun _ _ => 0) (fun _ _ _ => 0) = ln (INR c).
Proof.
  pose proof c_ge. pose proof N_ge. unfold loss.
  rewrite (sum_ext c _ (fun _ => INR N * ln (INR c))).
  2:{ intros k _. rewrite (sum_ext _ _ (fun _ => ln (INR c))); [apply sum_const|].
    intros j _. unfold cross_entropy, partition, logit. rewrite !sum_const.
    replace (INR d * (0 * 0) / T) with 0 by (field; lra). rewrite exp_0, Rmult_1_r. ring. }
  rewrite !sum_const. field. lra.
Qed.

(* There is no other minimum. *)
Theorem unique_at_zero d W h : 1 / INR c <= tau -> loss d W h = ln (INR c) ->
  (forall k l, (k < c)%nat -> (l < d)%nat -> W k l = 0) /\
  (forall k j l, (k < c)%nat -> (j < N)%nat -> (l < d)%nat -> h k j l = 0).
Proof.
  intros hot e. destruct (hot_bounds hot) as (h1 & h2 & h3). pose proof c_ge. pose proof N_ge.
  pose proof e as e'. rewrite <- uniform in e'.
  pose proof (logits_at_minimum d W h _ h1 h2 h3 e') as flat.
  assert (forall k j i, (k < c)%nat -> (j < N)%nat -> (i < c)%nat -> logit d W h k j i = 0) as zero.
  { intros k j i hk hj hi. destruct (flat k j i hk hj hi) as [_ ->].
    replace ((1 - (INR c - 1) * / INR c) / / INR c) with 1 by (field; lra). rewrite ln_1. ring. }
  unfold loss in e. rewrite (sum_ext c _ (fun _ => INR N * ln (INR c))) in e.
  2:{ intros k hk. rewrite (sum_ext _ _ (fun _ => ln (INR c))); [apply sum_const|].
    intros j hj. unfold cross_entropy, partition. rewrite zero by assumption.
    rewrite (sum_ext _ _ (fun _ => 1)), sum_const, Rmult_1_r; [ring|].
    intros i hi. rewrite zero by assumption. apply exp_0. }
  rewrite sum_const in e.
  replace (INR c * (INR N * ln (INR c)) / (INR c * INR N)) with (ln (INR c)) in e by (field; lra).
  assert (forall k, 0 <= sum d (fun l => W k l ^ 2)) as w0
    by (intros; apply sum_ge0; intros; apply pow2_ge_0).
  assert (forall k j, 0 <= sum d (fun l => h k j l ^ 2)) as f0
    by (intros; apply sum_ge0; intros; apply pow2_ge_0).
  assert (forall k, 0 <= sum N (fun j => sum d (fun l => h k j l ^ 2))) as f1
    by (intros; apply sum_ge0; intros; apply f0).
  pose proof (sum_ge0 c (fun k => sum d (fun l => W k l ^ 2)) (fun k _ => w0 k)) as w2.
  pose proof (sum_ge0 c (fun k => sum N (fun j => sum d (fun l => h k j l ^ 2))) (fun k _ => f1 k)) as f2.
  assert (0 <= lw / 2) as lw2 by lra. assert (0 <= lh / 2) as lh2 by lra.
  pose proof (Rmult_le_pos _ _ lw2 w2). pose proof (Rmult_le_pos _ _ lh2 f2).
  assert (sum c (fun k => sum d (fun l => W k l ^ 2)) = 0) as w3
    by (apply (Rmult_eq_reg_l (lw / 2)); lra).
  assert (sum c (fun k => sum N (fun j => sum d (fun l => h k j l ^ 2))) = 0) as f3
    by (apply (Rmult_eq_reg_l (lh / 2)); lra).
  assert (forall f l, sum d (fun l => f l ^ 2) = 0 -> (l < d)%nat -> f l = 0) as entry.
  { intros f l s hl. apply Rsqr_0_uniq. rewrite Rsqr_pow2.
    refine (sum_zero d (fun l => f l ^ 2) _ _ l hl); [intros; apply pow2_ge_0 | lra]. }
  split.
  - intros k l hk hl. apply (entry (W k)); [|exact hl].
    exact (sum_zero c _ (fun k _ => w0 k) (Req_le _ _ w3) k hk).
  - intros k j l hk hj hl. apply (entry (h k j)); [|exact hl].
    refine (sum_zero N _ (fun j _ => f0 k j) (Req_le _ _ _) j hj).
    exact (sum_zero c _ (fun k _ => f1 k) (Req_le _ _ f3) k hk).
Qed.

(* Rows U k of a simplex ETF: U U^T = I - 11^T / c. *)
Definition simplex d (U : nat -> nat -> R) : Prop := forall k i, (k < c)%nat -> (i < c)%nat ->
  sum d (fun l => U k l * U i l) = (if Nat.eqb i k then 1 else 0) - / INR c.

Definition margin : R := T * ln (p / tau).

Lemma tau_lt_p : tau < 1 / INR c -> tau < p.
Proof. intros cold. pose proof (below _ cold). unfold p. lra. Qed.

Lemma margin_pos : tau < 1 / INR c -> 0 < margin.
Proof.
  intros cold. pose proof tau_pos. pose proof (tau_lt_p cold). apply Rmult_lt_0_compat; [assumption|].
  rewrite <- ln_1. apply ln_increasing; [lra|].
  apply Rmult_lt_reg_r with tau; [assumption|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra.
Qed.

(* At every minimum the logits W h are those of a simplex, and each wrong class has probability tau. *)
Theorem every_minimum d W h : tau < 1 / INR c -> loss d W h = least ->
  forall k j i, (k < c)%nat -> (j < N)%nat -> (i < c)%nat ->
  exp (logit d W h k j i) / partition (logit d W h k j) = (if Nat.eqb i k then p else tau) /\
  T * logit d W h k j i = margin * ((if Nat.eqb i k then 1 else 0) - / INR c).
Proof.
  intros cold e k j i hk hj hi. pose proof (below _ cold).
  assert (tau ^ 2 <= T ^ 2 * (INR N * lw * lh)) as square by (rewrite tau_squared; lra).
  destruct (logits_at_minimum d W h tau tau_pos ltac:(lra) square e k j i hk hj hi) as [predicted value].
  split; [exact predicted|]. rewrite value. unfold margin, p. ring.
Qed.

Section Attained.
Variables (d : nat) (U : nat -> nat -> R) (w b : R).
Hypothesis cold : tau < 1 / INR c.
Hypothesis etf : simplex d U.
Hypothesis product : w * b = margin.
Hypothesis balanced : lw * w ^ 2 = lh * INR N * b ^ 2.

Lemma decay : lw * w ^ 2 = tau * ln (p / tau).
Proof.
  pose proof (margin_pos cold) as pos. pose proof tau_pos.
  assert (0 < ln (p / tau)).
  { unfold margin in pos. apply Rmult_lt_reg_l with T; [assumption|]. rewrite Rmult_0_r. exact pos. }
  apply Rsqr_inj.
  - apply Rmult_le_pos; [lra|apply pow2_ge_0].
  - apply Rmult_le_pos; lra.
  - rewrite !Rsqr_pow2, (Rpow_mult_distr tau), tau_squared.
    replace (T ^ 2 * (INR N * lw * lh) * ln (p / tau) ^ 2) with (INR N * lw * lh * margin ^ 2)
      by (unfold margin; ring).
    rewrite <- product.
    replace ((lw * w ^ 2) ^ 2) with (lw * w ^ 2 * (lw * w ^ 2)) by ring.
    rewrite balanced at 2. ring.
Qed.

Lemma squares a : sum c (fun k => sum d (fun l => (a * U k l) ^ 2)) = (INR c - 1) * a ^ 2.
Proof.
  pose proof c_ge. rewrite (sum_ext _ _ (fun _ => a ^ 2 * (1 - / INR c))).
  - rewrite sum_const. field. lra.
  - intros k hk. rewrite (sum_ext _ _ (fun l => a ^ 2 * (U k l * U k l))) by (intros; ring).
    rewrite sum_scal, etf by assumption. rewrite Nat.eqb_refl. reflexivity.
Qed.

Lemma loss_at_sample k j : (k < c)%nat ->
  cross_entropy (logit d (fun i l => w * U i l) (fun i _ l => b * U i l) k j) k = - ln p.
Proof.
  intros hk. pose proof c_ge. pose proof tau_pos. pose proof (tau_lt_p cold).
  set (x := ln (p / tau)).
  assert (forall i, (i < c)%nat -> logit d (fun i l => w * U i l) (fun i _ l => b * U i l) k j i
    = (if Nat.eqb i k then 1 else 0) * x - x / INR c) as value.
  { intros i hi. unfold logit.
    rewrite (sum_ext _ _ (fun l => w * b * (U k l * U i l))) by (intros; ring).
    rewrite sum_scal, etf, product by assumption. unfold margin. fold x. field. lra. }
  unfold cross_entropy, partition. rewrite value, Nat.eqb_refl by exact hk.
  rewrite (sum_ext _ _ (fun i => (if Nat.eqb i k then exp x else 1) * exp (- (x / INR c)))).
  2:{ intros i hi. rewrite value by exact hi. destruct (Nat.eqb i k); rewrite <- ?exp_plus.
    - f_equal. ring.
    - rewrite Rmult_1_l. f_equal. ring. }
  rewrite sum_weighted, sum_const by exact hk.
  assert (exp x = p / tau) as ->.
  { apply exp_ln, Rdiv_lt_0_compat; lra. }
  replace (1 * (INR c * exp (- (x / INR c))) + (p / tau - 1) * exp (- (x / INR c)))
    with (/ tau * exp (- (x / INR c))) by (unfold p; field; lra).
  rewrite ln_mult, ln_exp, ln_Rinv by
    first [assumption | apply exp_pos | apply Rinv_0_lt_compat; assumption].
  unfold x, Rdiv. rewrite ln_mult, ln_Rinv by
    first [assumption | lra | apply Rinv_0_lt_compat; assumption]. ring.
Qed.

Theorem attained : loss d (fun k l => w * U k l) (fun k _ l => b * U k l) = least.
Proof.
  pose proof c_ge. pose proof N_ge. pose proof tau_pos. pose proof (tau_lt_p cold). unfold loss.
  rewrite (sum_ext c _ (fun _ => INR N * - ln p)).
  2:{ intros k hk. rewrite <- sum_const. apply sum_ext; intros j _. apply loss_at_sample, hk. }
  rewrite sum_const, squares.
  rewrite (sum_ext c (fun k => sum N _) (fun k => INR N * sum d (fun l => (b * U k l) ^ 2)))
    by (intros; apply sum_const).
  rewrite sum_scal, squares.
  replace (INR c * (INR N * - ln p) / (INR c * INR N)) with (- ln p) by (field; lra).
  replace (lw / 2 * ((INR c - 1) * w ^ 2)) with ((INR c - 1) / 2 * (lw * w ^ 2)) by field.
  replace (lh / 2 * (INR N * ((INR c - 1) * b ^ 2))) with ((INR c - 1) / 2 * (lh * INR N * b ^ 2))
    by field.
  rewrite <- balanced, decay.
  assert (ln (p / tau) = ln p - ln tau) as ->.
  { unfold Rdiv. rewrite ln_mult, ln_Rinv by
      first [assumption | lra | apply Rinv_0_lt_compat; assumption]. ring. }
  unfold least. set (L := ln p). unfold p. field.
Qed.
End Attained.

Definition padded k l : R := if Nat.ltb (S l) c then helmert k l else 0.

Lemma padded_simplex d : (c <= S d)%nat -> simplex d padded.
Proof.
  intros wide k i hk hi.
  pose proof (helmert_product (pred c) k i ltac:(lia) ltac:(lia)) as product.
  replace (S (pred c)) with c in product by lia. rewrite <- product, (sum_beyond (pred c) d).
  - apply sum_ext; intros l hl. unfold padded. destruct (Nat.ltb_spec (S l) c); [reflexivity|lia].
  - lia.
  - intros l hl. unfold padded. destruct (Nat.ltb_spec (S l) c); [lia|ring].
Qed.

(* The least value is a minimum if features have at least c - 1 coordinates. *)
Theorem minimum d : (c <= S d)%nat -> tau < 1 / INR c ->
  (exists W h, loss d W h = least) /\ forall W h, least <= loss d W h.
Proof.
  intros wide cold. split; [|intros; apply lower_bound, cold].
  pose proof (margin_pos cold) as a_pos. pose proof N_ge.
  set (r := sqrt (lh * INR N / lw)).
  assert (0 < lh * INR N / lw) as ratio.
  { apply Rdiv_lt_0_compat; [apply Rmult_lt_0_compat|]; lra. }
  assert (0 < r) as r_pos by (apply sqrt_lt_R0, ratio).
  assert (r ^ 2 = lh * INR N / lw) as r_squared by (apply pow2_sqrt; lra).
  assert (0 < margin / r) by (apply Rdiv_lt_0_compat; assumption).
  set (b := sqrt (margin / r)).
  assert (b ^ 2 = margin / r) as b_squared by (apply pow2_sqrt; lra).
  exists (fun k l => r * b * padded k l), (fun k _ l => b * padded k l).
  apply attained; [exact cold | apply padded_simplex, wide | |].
  - replace (r * b * b) with (r * b ^ 2) by ring. rewrite b_squared. field. lra.
  - rewrite Rpow_mult_distr, r_squared. field. lra.
Qed.

End TwoFactors.

Print Assumptions lower_bound.
Print Assumptions lower_bound_hot.
Print Assumptions attained_at_zero.
Print Assumptions unique_at_zero.
Print Assumptions every_minimum.
Print Assumptions attained.
Print Assumptions minimum.
