"""A federated regression: scikit-learn's diabetes, mean squared error."""

import fedprune

if __name__ == "__main__":
    run = fedprune.simulate(
        config={
            "task.data": "diabetes",
            "task.model": "mlp",
            "task.loss": "mse",
            "client.penalty": "group",
            "client.lr": 0.01,
            "prune.budget.params": 0.4,
            "run.engine": "inprocess",
        }
    )
    print("R squared, dense", run.summary["accuracy_control"])
    print("R squared, final", run.summary["accuracy_final"])
