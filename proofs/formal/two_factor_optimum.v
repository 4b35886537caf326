(* The least loss of the two-factor model: cross-entropy of W h / T with weight decay on both factors.

   Classes k < c, N samples (k, j), j < N, of each, features h k j of width d, classifier rows W k.
   With tau = T sqrt (N lw lh) and p = 1 - (c - 1) tau, the loss is at least
   - p ln p - (c - 1) tau ln tau if tau < 1/c, and this is attained; otherwise it is at least ln c,
   which is attained at zero. *)

Require Import Reals Lra Lia.
Open Scope R_scope.

(* The sum of f k over k < n. *)
Fixpoint sum (n : nat) (f : nat -> R) : R :=
  match n with O => 0 | S m => sum m f + f m end.

Lemma sum_ext n f g : (forall k, (k < n)%nat -> f k = g k) -> sum n f = sum n g.
Proof. induction n; simpl; intros h; [reflexivity|]. rewrite IHn, (h n); auto. Qed.

Lemma sum_le n f g : (forall k, (k < n)%nat -> f k <= g k) -> sum n f <= sum n g.
Proof.
  induction n; simpl; intros h; [lra|].
  pose proof (h n ltac:(lia)). specialize (IHn (fun k hk => h k ltac:(lia))). lra.
Qed.

Lemma sum_plus n f g : sum n (fun k => f k + g k) = sum n f + sum n g.
Proof. induction n; simpl; [|rewrite IHn]; ring. Qed.

Lemma sum_minus n f g : sum n (fun k => f k - g k) = sum n f - sum n g.
Proof. induction n; simpl; [|rewrite IHn]; ring. Qed.

Lemma sum_scal n a f : sum n (fun k => a * f k) = a * sum n f.
Proof. induction n; simpl; [|rewrite IHn]; ring. Qed.

Lemma sum_const n a : sum n (fun _ => a) = INR n * a.
Proof. induction n; [simpl; ring|]. rewrite S_INR. simpl. rewrite IHn. ring. Qed.

Lemma sum_swap n m f :
  sum n (fun i => sum m (fun j => f i j)) = sum m (fun j => sum n (fun i => f i j)).
Proof.
  induction n; simpl.
  - rewrite sum_const. ring.
  - rewrite IHn, <- sum_plus. reflexivity.
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

(* ln x <= x - 1 at x = exp v / q *)
Lemma term_ge q v : 0 < q -> q - exp v <= q * (ln q - v).
Proof.
  intros hq. pose proof (exp_ineq1_le (v - ln q)) as h.
  replace (exp (v - ln q)) with (exp v / q) in h
    by (unfold Rminus, Rdiv; rewrite exp_plus, exp_Ropp, exp_ln by assumption; reflexivity).
  apply Rmult_le_compat_l with (r := q) in h; [|lra].
  replace (q * (exp v / q)) with (exp v) in h by (field; lra). lra.
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
Definition cross_entropy (z : nat -> R) y : R := ln (sum c (fun k => exp (z k))) - z y.
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

(* Gibbs's inequality for these probabilities and the softmax. *)
Lemma cross_entropy_ge t z y : 0 < t -> INR c * t <= 1 -> (y < c)%nat ->
  entropy t - t * (INR c * z y - sum c z) <= cross_entropy z y.
Proof.
  intros ht hct hy. unfold entropy, cross_entropy.
  set (q := 1 - (INR c - 1) * t). assert (0 < q) as hq by (unfold q; lra).
  pose proof (exp_sum_pos c z ltac:(lia)) as hZ. set (Z := sum c (fun k => exp (z k))) in *.
  set (u := fun k => if Nat.eqb k y then q else t).
  assert (sum c (fun k => u k - exp (z k - ln Z)) <= sum c (fun k => u k * (ln (u k) - (z k - ln Z))))
    as gibbs.
  { apply sum_le; intros k _. apply term_ge. unfold u. destruct (Nat.eqb k y); assumption. }
  assert (sum c u = INR c * t + (q - t)) as total.
  { rewrite (sum_ext _ _ (fun k => u k * 1)) by (intros; ring).
    unfold u. rewrite sum_weighted, sum_const by exact hy. ring. }
  assert (sum c (fun k => exp (z k - ln Z)) = 1) as softmax.
  { rewrite (sum_ext _ _ (fun k => / Z * exp (z k))).
    - rewrite sum_scal. fold Z. field. lra.
    - intros k _. unfold Rminus. rewrite exp_plus, exp_Ropp, exp_ln by exact hZ. ring. }
  rewrite sum_minus, total, softmax in gibbs.
  assert (sum c (fun k => u k * (ln (u k) - (z k - ln Z)))
    = INR c * (t * ln t) + (q * ln q - t * ln t) - (t * sum c z + (q - t) * z y)
      + (INR c * t + (q - t)) * ln Z) as split.
  { rewrite (sum_ext _ _ (fun k => u k * ln (u k) - u k * z k + ln Z * u k)) by (intros; ring).
    rewrite sum_plus, sum_minus, sum_scal, total.
    rewrite (sum_ext _ (fun k => u k * ln (u k))
      (fun k => (if Nat.eqb k y then q * ln q else t * ln t) * 1)).
    - unfold u. rewrite !sum_weighted, sum_const by exact hy. ring.
    - intros k _. unfold u. destruct (Nat.eqb k y); ring. }
  rewrite split in gibbs. replace (INR c * t + (q - t)) with 1 in gibbs by (unfold q; ring).
  replace (q - t) with (1 - INR c * t) in gibbs by (unfold q; ring). lra.
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

Lemma centred_le : sum c (fun k => sum d (fun l => centred k l ^ 2))
  <= sum c (fun k => sum d (fun l => W k l ^ 2)).
Proof.
  rewrite sum_swap, (sum_swap c d (fun k l => W k l ^ 2)). apply sum_le; intros l _.
  set (s := sum c (fun i => W i l)).
  rewrite (sum_ext _ _ (fun k => W k l ^ 2 - 2 * (s / INR c) * W k l + (s / INR c) ^ 2))
    by (intros k _; unfold centred; fold s; ring).
  rewrite sum_plus, sum_minus, sum_scal, sum_const. fold s. pose proof c_ge.
  enough (0 <= s ^ 2 / INR c) as nonneg.
  { replace (2 * (s / INR c) * s) with (2 * (s ^ 2 / INR c)) by (field; lra).
    replace (INR c * (s / INR c) ^ 2) with (s ^ 2 / INR c) by (field; lra). lra. }
  apply Rmult_le_pos; [apply pow2_ge_0|]. left. apply Rinv_0_lt_compat. lra.
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
  <= lw / 2 * sum c (fun k => sum d (fun l => W k l ^ 2))
     + lh / 2 * sum c (fun k => sum N (fun j => sum d (fun l => h k j l ^ 2))).
Proof.
  apply Rle_trans with (sum c (fun k => sum N (fun j => lh / 2 * sum d (fun l => h k j l ^ 2)
    + kappa ^ 2 / (2 * lh) * sum d (fun l => centred k l ^ 2)))).
  - apply sum_le; intros k _; apply sum_le; intros j _. rewrite <- !sum_scal, <- sum_plus.
    apply sum_le; intros l _. apply young.
  - rewrite (sum_ext _ _ (fun k => lh / 2 * sum N (fun j => sum d (fun l => h k j l ^ 2))
      + INR N * (kappa ^ 2 / (2 * lh)) * sum d (fun l => centred k l ^ 2))).
    2:{ intros k _. rewrite sum_plus, sum_scal, sum_const. ring. }
    rewrite sum_plus, !sum_scal. pose proof centred_le. pose proof kappa_squared.
    assert (0 <= sum c (fun k => sum d (fun l => centred k l ^ 2))) as nonneg.
    { replace 0 with (sum c (fun _ => sum d (fun _ => 0))).
      - apply sum_le; intros; apply sum_le; intros; apply pow2_ge_0.
      - rewrite !sum_const. ring. }
    apply Rmult_le_compat_r with (r := sum c (fun k => sum d (fun l => centred k l ^ 2))) in H0;
      [|exact nonneg].
    apply Rmult_le_compat_l with (r := lw / 2) in H; lra.
Qed.

Lemma entropy_le : entropy t <= loss d W h.
Proof.
  pose proof c_ge. pose proof N_ge. unfold loss.
  assert (0 < INR c * INR N) as cN by (apply Rmult_lt_0_compat; lra).
  assert (sum c (fun k => sum N (fun j => entropy t
      - INR c * INR N * (kappa * sum d (fun l => centred k l * h k j l))))
    <= sum c (fun k => sum N (fun j => cross_entropy (logit d W h k j) k))) as data.
  { apply sum_le; intros k hk; apply sum_le; intros j _. rewrite <- contrast by exact hk.
    apply cross_entropy_ge; assumption. }
  rewrite (sum_ext _ _ (fun k => INR N * entropy t
    - INR c * INR N * sum N (fun j => kappa * sum d (fun l => centred k l * h k j l)))) in data.
  2:{ intros k _. rewrite sum_minus, sum_const, sum_scal. reflexivity. }
  rewrite sum_minus, sum_const, sum_scal in data.
  apply Rmult_le_compat_r with (r := / (INR c * INR N)) in data;
    [|left; apply Rinv_0_lt_compat; exact cN].
  replace ((INR c * (INR N * entropy t) - INR c * INR N *
      sum c (fun k => sum N (fun j => kappa * sum d (fun l => centred k l * h k j l))))
      * / (INR c * INR N))
    with (entropy t - sum c (fun k => sum N (fun j => kappa * sum d (fun l => centred k l * h k j l))))
    in data by (field; lra).
  unfold Rdiv at 1. pose proof decays_ge. lra.
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

Theorem lower_bound_hot d W h : 1 / INR c <= tau -> ln (INR c) <= loss d W h.
Proof.
  intros hot. pose proof c_ge. assert (0 < / INR c) by (apply Rinv_0_lt_compat; lra).
  replace (ln (INR c)) with (entropy (/ INR c)).
  - apply entropy_le; [assumption|right; field; lra|].
    rewrite <- tau_squared. apply pow_incr. lra.
  - unfold entropy. replace (1 - (INR c - 1) * / INR c) with (/ INR c) by (field; lra).
    rewrite ln_Rinv by lra. field. lra.
Qed.

Theorem attained_at_zero d : loss d (fun _ _ => 0) (fun _ _ _ => 0) = ln (INR c).
Proof.
  pose proof c_ge. pose proof N_ge. unfold loss.
  rewrite (sum_ext c _ (fun _ => INR N * ln (INR c))).
  2:{ intros k _. rewrite (sum_ext _ _ (fun _ => ln (INR c))); [apply sum_const|].
    intros j _. unfold cross_entropy, logit. rewrite !sum_const.
    replace (INR d * (0 * 0) / T) with 0 by (field; lra). rewrite exp_0, Rmult_1_r. ring. }
  rewrite !sum_const. field. lra.
Qed.

(* Rows U k of a simplex ETF: U U^T = I - 11^T / c. *)
Definition simplex d (U : nat -> nat -> R) : Prop := forall k i, (k < c)%nat -> (i < c)%nat ->
  sum d (fun l => U k l * U i l) = (if Nat.eqb i k then 1 else 0) - / INR c.

Definition margin : R := T * ln (p / tau).

Section Attained.
Variables (d : nat) (U : nat -> nat -> R) (w b : R).
Hypothesis cold : tau < 1 / INR c.
Hypothesis etf : simplex d U.
Hypothesis product : w * b = margin.
Hypothesis balanced : lw * w ^ 2 = lh * INR N * b ^ 2.

Lemma tau_lt_p : tau < p.
Proof. pose proof (below _ cold). unfold p. lra. Qed.

Lemma margin_pos : 0 < margin.
Proof.
  pose proof tau_pos. pose proof tau_lt_p. apply Rmult_lt_0_compat; [assumption|].
  rewrite <- ln_1. apply ln_increasing; [lra|].
  apply Rmult_lt_reg_r with tau; [assumption|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l; lra.
Qed.

Lemma decay : lw * w ^ 2 = tau * ln (p / tau).
Proof.
  pose proof margin_pos as pos. pose proof tau_pos.
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
  intros hk. pose proof c_ge. pose proof tau_pos. pose proof tau_lt_p.
  set (x := ln (p / tau)).
  assert (forall i, (i < c)%nat -> logit d (fun i l => w * U i l) (fun i _ l => b * U i l) k j i
    = (if Nat.eqb i k then 1 else 0) * x - x / INR c) as value.
  { intros i hi. unfold logit.
    rewrite (sum_ext _ _ (fun l => w * b * (U k l * U i l))) by (intros; ring).
    rewrite sum_scal, etf, product by assumption. unfold margin. fold x. field. lra. }
  unfold cross_entropy. rewrite value, Nat.eqb_refl by exact hk.
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
  pose proof c_ge. pose proof N_ge. pose proof tau_pos. pose proof tau_lt_p. unfold loss.
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

(* Row k of I - 11^T / c. *)
Definition row k l : R := (if Nat.eqb l k then 1 else 0) - / INR c.

Lemma row_simplex : simplex c row.
Proof.
  intros k i hk hi. pose proof c_ge. unfold row.
  rewrite (sum_ext _ _ (fun l => (if Nat.eqb l k then 1 else 0) * (if Nat.eqb l i then 1 else 0)
    - / INR c * ((if Nat.eqb l k then 1 else 0) * 1)
    - / INR c * ((if Nat.eqb l i then 1 else 0) * 1) + / INR c * / INR c)) by (intros; ring).
  rewrite sum_plus, !sum_minus, !sum_scal, !sum_weighted, !sum_const by assumption.
  rewrite (Nat.eqb_sym k i). destruct (Nat.eqb i k); field; lra.
Qed.

(* The least value is a minimum for features of width c. *)
Theorem minimum : tau < 1 / INR c ->
  (exists W h, loss c W h = least) /\ forall d W h, least <= loss d W h.
Proof.
  intros cold. split; [|intros; apply lower_bound, cold].
  pose proof (margin_pos cold) as a_pos. pose proof N_ge.
  set (r := sqrt (lh * INR N / lw)).
  assert (0 < lh * INR N / lw) as ratio.
  { apply Rdiv_lt_0_compat; [apply Rmult_lt_0_compat|]; lra. }
  assert (0 < r) as r_pos by (apply sqrt_lt_R0, ratio).
  assert (r ^ 2 = lh * INR N / lw) as r_squared by (apply pow2_sqrt; lra).
  assert (0 < margin / r) by (apply Rdiv_lt_0_compat; assumption).
  set (b := sqrt (margin / r)).
  assert (b ^ 2 = margin / r) as b_squared by (apply pow2_sqrt; lra).
  exists (fun k l => r * b * row k l), (fun k _ l => b * row k l).
  apply attained; [exact cold | exact row_simplex | |].
  - replace (r * b * b) with (r * b ^ 2) by ring. rewrite b_squared. field. lra.
  - rewrite Rpow_mult_distr, r_squared. field. lra.
Qed.

End TwoFactors.

Print Assumptions lower_bound.
Print Assumptions lower_bound_hot.
Print Assumptions attained_at_zero.
Print Assumptions attained.
Print Assumptions minimum.
