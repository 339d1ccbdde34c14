"""Evaluation: folds, scores, predictions, results and their comparison; no training."""
