#!/usr/bin/env bash
# Trains the networks of the tables and figures, one command per row, and exports the pages (environment activated):
#   bash real_nets/results/evidence.sh ROOT JPEG
# ROOT holds lossless images (cifar10, cifar100, street-characters) and tiny-imagenet-100. JPEG holds cifar10 re-encoded
# and tiny-imagenet-100. Everything takes days on two CPU cores; an interrupted command resumes. Each row can be run
# alone. Settings of ROOT's rows were written here before their networks were trained, those of JPEG rows were not all.
set -euo pipefail
LOSSLESS="${1:?give ROOT and JPEG}"
JPEG="${2:?give JPEG}"
RUN="python -m real_nets.reproduce"

# The paper's own images. Its unknown recipe is replaced by the usual one (`budgets.py`), at a width and for epochs that
# two cores can train: 30 epochs for CIFAR-100, 15 for CIFAR-10 and ResNet-34, bfloat16 for convolutions.
OWN="--budget small --data $LOSSLESS --replace svhn=street-characters --out runs/lossless"
NARROW="$OWN --precision bf16"
SHORT="$NARROW --epochs 15"
THIRD="--further-ood tiny-imagenet-100"
MORE="$SHORT $THIRD"
EVERY="neural-collapse trade-off"
$RUN table1 conventions fig1 fig2 fig3 fig4 fig5 fig7 ortho-dev $EVERY $OWN --cells CIFAR-10/MLP --other-temperatures 200
# A contrast: more norm than at T = 1.
$RUN table1 conventions fig1 fig2 fig3 fig4 fig5 $OWN --cells CIFAR-10/MLP --other-temperatures 0.3
# Temperatures between.
$RUN table1 conventions fig1 fig2 fig3 fig4 fig5 $OWN --cells CIFAR-10/MLP --other-temperatures 10 100
$RUN mse rank-two $OWN --cells CIFAR-10/MLP
$RUN fig6 fig8 $OWN
$RUN table1 table2 conventions fig1 fig2 fig5 fig7 ortho-dev $EVERY $NARROW --cells CIFAR-100/ResNet-18 --other-temperatures
$RUN table1 table2 conventions fig7 alignment ortho-dev $EVERY $SHORT --cells CIFAR-10/ResNet-18 --other-temperatures
$RUN table3 conventions alignment $EVERY $SHORT --cells CIFAR-10/VGG-19 --other-temperatures
$RUN table1 conventions ortho-dev $EVERY $MORE --cells CIFAR-10/ResNet-20 --other-temperatures
$RUN table2 $MORE --width 8 --cells CIFAR-10/ResNet-34 --other-temperatures
$RUN table3 conventions $EVERY $NARROW $THIRD --cells CIFAR-100/VGG-19 --other-temperatures
$RUN table1 table2 conventions fig1 fig2 fig5 fig7 ortho-dev $EVERY $MORE --cells CIFAR-100/ResNet-34 --other-temperatures
# A small ViT from scratch for ViT-B, which the paper pretrains on ImageNet-21k.
$RUN table2 $NARROW $THIRD --cells CIFAR-10/ViT-B --other-temperatures
$RUN table2 $NARROW $THIRD --cells CIFAR-100/ViT-B --other-temperatures
# Higher temperatures; at 50, ResNet-18 had collapsed in single runs of 12 epochs.
$RUN table1 conventions fig1 fig2 fig5 $NARROW --cells CIFAR-100/ResNet-18 --other-temperatures 50 100
# What width does, one seed.
$RUN table1 conventions $OWN-wide --precision bf16 --seeds 1 --width 32 --cells CIFAR-100/ResNet-18 --other-temperatures
# An MLP of twice the width without momentum, at the same rate lr / (1 - momentum).
$RUN table1 fig2 fig3 $OWN-plain --cells CIFAR-10/MLP --other-temperatures --width 1024 --momentum 0 --lr 0.5

# Tiny ImageNet-100 for ImageNet-100, one seed.
TINY="--budget small --data $LOSSLESS --replace imagenet100=tiny-imagenet-100 --image-size 32 --seeds 1 --out runs/tiny"
LARGE="$TINY --precision bf16 --epochs 15 --other-temperatures"
$RUN table1 conventions $EVERY $LARGE --cells ImageNet-100/ResNet-34
$RUN table1 conventions $EVERY $LARGE --cells ImageNet-100/ResNet-50
for STORE in lossless lossless-plain lossless-wide tiny; do python -m real_nets.report "runs/$STORE" --export "runs/results/$STORE"; done

# Re-encoded images, and Tiny ImageNet-100 at 32 x 32 for CIFAR-100, with AdamW.
OTHERS="svhn=tiny-imagenet-100 cifar100=tiny-imagenet-100"
FIRST="--budget small --recipe adaptive --data $JPEG --replace $OTHERS"
TARGETS="table1 table2 table3 fig6 alignment mse neural-collapse rank-two ortho-dev trade-off"
PART="table1 neural-collapse ortho-dev trade-off"
TENTH="--epochs 60 --per-class 500 --test-per-class 200 --out runs/tenth"
CELLS="CIFAR-10/MLP CIFAR-100/ResNet-18 CIFAR-10/VGG-19"
$RUN $TARGETS $FIRST --cells $CELLS --other-temperatures --out runs/jpeg
$RUN fig3 fig4 $FIRST --cells CIFAR-10/MLP --other-temperatures --out runs/jpeg
$RUN $PART $FIRST --cells CIFAR-10/ResNet-20 --temperature 100 --out runs/jpeg
$RUN $PART $FIRST --cells CIFAR-10/ResNet-20 --temperature 100 $TENTH
$RUN rank-two $FIRST --cells CIFAR-10/ResNet-18 $TENTH
$RUN table2 $PART $FIRST --cells CIFAR-100/ResNet-18 --epochs 50 --temperature 30 --per-class 100 --out runs/fewer
for STORE in jpeg tenth fewer; do python -m real_nets.report "runs/$STORE" --export "runs/results/$STORE"; done
